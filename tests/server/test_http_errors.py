"""Bad requests: each its status, parameter and code, in OpenAI's shape, before any work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.servers import Server, serving

IMAGES, EDITS, VIDEOS = "/v1/images/generations", "/v1/images/edits", "/v1/videos"
JSON = {"content-type": "application/json"}
VALUE, TYPE, MISSING = "invalid_value", "invalid_type", "missing_required_parameter"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = ("--max-pixels", "16384", "--max-frames", "9", "--max-steps", "50")
    with serving(tmp_path_factory.mktemp("errors"), *limits, "--max-upload-mb", "1") as made:
        yield made
        assert made.stats()["completed"] == 0, "a bad request did work"


def check(answer: httpx.Response, status: int, param: str | None, code: str) -> str:
    """The message of an error in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert answer.headers["x-request-id"]
    message: str = error["message"]
    assert message
    return message


BODIES: list[tuple[str, bytes]] = [
    ("half", b'{"prompt": '),
    ("empty", b""),
    ("array", b"[]"),
    ("text", b'"a circle"'),
    ("number", b"5"),
    ("null", b"null"),
    ("NaN", b'{"prompt": "x", "guidance_scale": NaN}'),
    ("Infinity", b'{"prompt": "x", "guidance_scale": -Infinity}'),
    ("long number", b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}"),
    ("deep array", b"[" * 100_000),
    ("deep object", b'{"a":' * 50_000),
    ("not UTF-8", b'{"prompt": "\xff"}'),
    ("half a character", b'{"prompt": "\\ud800"}'),
]


@pytest.mark.parametrize("path", [IMAGES, VIDEOS])
@pytest.mark.parametrize("body", [b for _, b in BODIES], ids=[name for name, _ in BODIES])
def test_bodies_that_are_no_json_object(server: Server, path: str, body: bytes) -> None:
    check(server.post(path, content=body, headers=JSON), 400, None, "invalid_json")


EVERYWHERE: list[tuple[dict[str, Any], int, str, str, str]] = [
    ({"prompt": None}, 400, "prompt", MISSING, "required"),
    ({"prompt": 5}, 400, "prompt", TYPE, "text"),
    ({"prompt": ["x"]}, 400, "prompt", TYPE, "text"),
    ({"prompt": ""}, 400, "prompt", VALUE, "empty"),
    ({"prompt": "x" * 40_000}, 400, "prompt", VALUE, "longer"),
    ({"model": "gpt-image-1"}, 404, "model", "model_not_found", "demo"),
    ({"model": 5}, 400, "model", TYPE, "text"),
    ({"n": 0}, 400, "n", VALUE, "at least 1"),
    ({"n": 11}, 400, "n", VALUE, "at most 10"),
    ({"n": "2"}, 400, "n", TYPE, "whole number"),
    ({"n": True}, 400, "n", TYPE, "whole number"),
    ({"n": 1.5}, 400, "n", VALUE, "whole number"),
    ({"n": 2, "num_outputs_per_prompt": 3}, 400, "n", VALUE, "num_outputs_per_prompt"),
    ({"size": "64"}, 400, "size", VALUE, "WIDTHxHEIGHT"),
    ({"size": "64 x 64"}, 400, "size", VALUE, "WIDTHxHEIGHT"),
    ({"size": "64x64\n"}, 400, "size", VALUE, "WIDTHxHEIGHT"),
    ({"size": "0x0"}, 400, "size", VALUE, "WIDTHxHEIGHT"),
    ({"size": "-64x64"}, 400, "size", VALUE, "WIDTHxHEIGHT"),
    ({"size": "9999999x9999999"}, 400, "size", VALUE, "WIDTHxHEIGHT"),
    ({"size": "8x8"}, 400, "size", VALUE, "at least 64 px"),
    ({"size": "65x63"}, 400, "size", VALUE, "nearest that fit"),
    ({"size": "256x256"}, 400, "size", VALUE, "at most 16384"),
    ({"size": "64x64", "width": 96}, 400, "size", VALUE, "`width` is 96"),
    ({"width": 256, "height": 256}, 400, "width", VALUE, "at most 16384"),
    ({"width": 65}, 400, "width", VALUE, "nearest that fit"),
    ({"seed": -1}, 400, "seed", VALUE, "from 0"),
    ({"seed": 2**63}, 400, "seed", VALUE, "2^63"),
    ({"seed": 2**63 - 1, "n": 2}, 400, "seed", VALUE, "2^63"),
    ({"seed": 1e308}, 400, "seed", VALUE, "whole number"),
    ({"seed": "7"}, 400, "seed", TYPE, "whole number"),
    ({"seed": []}, 400, "seed", VALUE, "empty"),
    ({"seed": [1, None]}, 400, "seed", TYPE, "null"),
    ({"seed": [[1]]}, 400, "seed", TYPE, "whole number"),
    ({"seed": [1, 2], "n": 3}, 400, "seed", VALUE, "2 seeds for 3"),
    ({"seed": [*range(11)]}, 400, "seed", VALUE, "10 are the most"),
    ({"num_inference_steps": 0}, 400, "num_inference_steps", VALUE, "at least 1"),
    ({"num_inference_steps": 51}, 400, "num_inference_steps", VALUE, "at most 50"),
    ({"guidance_scale": -1}, 400, "guidance_scale", VALUE, "at least 0"),
    ({"guidance_scale": 1e300}, 400, "guidance_scale", VALUE, "at most"),
    ({"guidance_scale": "2"}, 400, "guidance_scale", TYPE, "number"),
    ({"negative_prompt": {"a": 1}}, 400, "negative_prompt", TYPE, "text"),
    ({"output_compression": 101}, 400, "output_compression", VALUE, "at most 100"),
    ({"sead": 1}, 400, "sead", "unknown_parameter", "did you mean `seed`?"),
    ({"x" * 5000: 1}, 400, "x" * 97 + "...", "unknown_parameter", "not a field"),
    ({"image_path": "/etc/passwd"}, 400, "image_path", "", ""),
    ({"prompt": "x", "self": 1}, 400, "self", "unknown_parameter", "not a field"),
]


def shown(row: tuple[dict[str, Any], int, str, str, str]) -> str:
    return json.dumps(row[0])[:50]


@pytest.mark.parametrize("path", [IMAGES, VIDEOS])
@pytest.mark.parametrize("row", EVERYWHERE, ids=shown)
def test_fields_of_both(
    server: Server, path: str, row: tuple[dict[str, Any], int, str, str, str]
) -> None:
    body, status, param, code, said = row
    answer = server.post(path, {"prompt": "a red circle"} | body)
    error = answer.json()["error"]
    assert said in check(answer, status, param, code or error["code"])


@pytest.mark.parametrize(
    "row",
    [
        ({"quality": "banana"}, 400, "quality", VALUE, "low"),
        ({"background": "transparent"}, 400, "background", "unsupported_value", "opaque"),
        ({"response_format": "banana"}, 400, "response_format", VALUE, "b64_json"),
        ({"output_format": "tiff"}, 400, "output_format", VALUE, "png, jpeg, webp"),
        ({"output_format": "gif"}, 400, "output_format", VALUE, "png, jpeg, webp"),
        ({"stream": True}, 400, "stream", "unsupported_value", "does not stream"),
        ({"stream": "false"}, 400, "stream", TYPE, "true or false"),
        ({"partial_images": 2}, 400, "partial_images", "unsupported_value", "no partial"),
        ({"num_frames": 5}, 400, "num_frames", VALUE, "/v1/videos"),
    ],
    ids=shown,
)
def test_fields_of_pictures(server: Server, row: tuple[dict[str, Any], int, str, str, str]) -> None:
    body, status, param, code, said = row
    assert said in check(server.post(IMAGES, {"prompt": "x"} | body), status, param, code)


@pytest.mark.parametrize(
    "row",
    [
        ({"seconds": "abc"}, 400, "seconds", VALUE, "above 0"),
        ({"seconds": 0}, 400, "seconds", VALUE, "above 0"),
        ({"seconds": "-4"}, 400, "seconds", VALUE, "above 0"),
        ({"seconds": 1e30}, 400, "seconds", VALUE, "above 0"),
        ({"seconds": True}, 400, "seconds", TYPE, "text"),
        ({"fps": 0}, 400, "fps", VALUE, "at least 1"),
        ({"num_frames": 0}, 400, "num_frames", VALUE, "at least 1"),
        ({"num_frames": 6}, 400, "num_frames", VALUE, "5 or 9"),
        ({"num_frames": 13}, 400, "num_frames", VALUE, "at most 9"),
        ({"input_reference": 5}, 400, "input_reference", TYPE, "URL"),
        ({"input_reference": {"file_id": "f"}}, 400, "input_reference.file_id", VALUE, "URL"),
        ({"input_reference": "https://x/y.png"}, 400, "input_reference", "unsupported_parameter",
         "takes no picture"),
        ({"quality": "high"}, 400, "quality", "unknown_parameter", "not a field"),
    ],
    ids=shown,
)  # fmt: skip
def test_fields_of_clips(server: Server, row: tuple[dict[str, Any], int, str, str, str]) -> None:
    body, status, param, code, said = row
    assert said in check(server.post(VIDEOS, {"prompt": "x"} | body), status, param, code)


@pytest.mark.parametrize(
    ("form", "files", "param", "code"),
    [
        ({}, {"image": b"x"}, "prompt", MISSING),
        ({"prompt": "x"}, {"zzz": b"x"}, "zzz", "unknown_parameter"),
        ({"prompt": "x", "n": "two"}, {"image": b"x"}, "n", VALUE),
        ({"prompt": "x", "seed": "9" * 5000}, {"image": b"x"}, "seed", VALUE),
        ({"prompt": "x"}, {"prompt": b"x"}, "prompt", TYPE),
        ({"prompt": "x"}, {"image": b"x"}, "image", "unsupported_parameter"),
        ({"prompt": "x"}, {"image": b"", "mask": b"x"}, "image", "unsupported_parameter"),
        ({"prompt": "x", "n": ["1", "2"]}, {"image": b"x"}, "n", VALUE),
        ({"prompt": "x"}, {"user": b""}, "image", MISSING),
    ],
)
def test_forms(
    server: Server, form: dict[str, Any], files: dict[str, bytes], param: str, code: str
) -> None:
    check(server.post(EDITS, data=form, files=files), 400, param, code)


def test_forms_that_are_none(server: Server) -> None:
    form = {"content-type": "multipart/form-data"}
    check(server.post(EDITS, content=b"abc", headers=form), 400, None, "invalid_multipart")
    bounded = {"content-type": "multipart/form-data; boundary=x"}
    broken = server.post(VIDEOS, content=b"abc", headers=bounded)
    assert broken.status_code == 400
    many = {"prompt": "x", **{f"a{i}": "b" for i in range(300)}}
    check(server.post(VIDEOS, data=many, files={"a": b""}), 400, None, "invalid_multipart")


@pytest.mark.parametrize("path", [IMAGES, EDITS, VIDEOS])
@pytest.mark.parametrize("type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_content_types(server: Server, path: str, type: str) -> None:
    answer = server.post(path, content=b'{"prompt": "x"}', headers={"content-type": type})
    check(answer, 415, "Content-Type", "unsupported_media_type")


def test_bodies_that_are_too_large(server: Server) -> None:
    large = {"prompt": "x" * (2 << 20)}
    check(server.post(IMAGES, large), 413, None, "request_too_large")
    upload = {"image": b"x" * (3 << 20)}
    check(server.post(EDITS, data={"prompt": "x"}, files=upload), 413, None, "request_too_large")

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * (1 << 20)

    check(server.post(IMAGES, content=endless(), headers=JSON), 413, None, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "param", "code"),
    [
        ("GET", IMAGES, 405, None, "method_not_allowed"),
        ("PATCH", VIDEOS, 405, None, "method_not_allowed"),
        ("GET", "/v1/videos/video_x", 404, None, "not_found"),
        ("DELETE", "/v1/videos/video_x", 404, None, "not_found"),
        ("GET", "/v1/videos/video_x/content", 404, None, "not_found"),
        ("GET", "/v1/images/img_x/content", 404, None, "not_found"),
        ("GET", "/v1/images/..%2Fjobs.sqlite3/content", 404, None, "not_found"),
        ("GET", "/v1/videos?limit=0", 400, "limit", VALUE),
        ("GET", "/v1/videos?limit=abc", 400, "limit", VALUE),
        ("GET", "/v1/videos?order=up", 400, "order", VALUE),
        ("GET", "/v1/videos?after=video_x", 400, "after", VALUE),
        ("GET", "/v1/models/none/such", 404, "model", "model_not_found"),
        ("GET", "/", 404, None, "not_found"),
        ("GET", "/v1/videos/", 404, None, "not_found"),
        ("POST", "/v1/set_lora", 404, None, "not_found"),
        ("POST", "/v1/videos/video_x/remix", 404, None, "not_found"),
        ("POST", "/v1/videos/edits", 404, None, "not_found"),
    ],
)
def test_paths_and_queries(
    server: Server, method: str, path: str, status: int, param: str | None, code: str
) -> None:
    check(httpx.request(method, server.url + path), status, param, code)


def test_the_allowed_methods_of_a_path_are_told(server: Server) -> None:
    answer = httpx.request("PUT", server.url + VIDEOS)
    assert answer.headers["allow"] == "GET, HEAD, POST"
