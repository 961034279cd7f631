"""What clients really send and ask for: names of other APIs, odd bodies, ranges, seeds, forms."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.servers import Server, serving, wait_until

IMAGES, EDITS, VIDEOS = "/v1/images/generations", "/v1/images/edits", "/v1/videos"
JSON = {"content-type": "application/json"}
ORIGIN = {"Origin": "https://app.example"}
PROMPT = "a red circle on a blue background"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("http"), "--cors-origin", ORIGIN["Origin"]) as made:
        yield made


@pytest.fixture(scope="module")
def image(server: Server) -> dict[str, Any]:
    answer: dict[str, Any] = server.post(IMAGES, {"prompt": PROMPT, "seed": 5, "n": 2}).json()
    return answer


@pytest.fixture(scope="module")
def clip(server: Server) -> str:
    id: str = server.post(VIDEOS, {"prompt": PROMPT, "num_frames": 5, "seed": [8, 3]}).json()["id"]
    wait_until(lambda: server.get(f"{VIDEOS}/{id}").json()["status"] == "completed")
    return f"{server.url}{VIDEOS}/{id}"


def problem(answer: httpx.Response, status: int = 400) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    return error


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("steps", "num_inference_steps"), ("sampling_steps", "num_inference_steps"),
        ("cfg_scale", "guidance_scale"), ("CFG", "guidance_scale"),
        ("neg_prompt", "negative_prompt"), ("num_images", "n"), ("batch_size", "n"),
        ("image_size", "size"), ("w", "width"), ("random_seed", "seed"), ("text", "prompt"),
        ("Seed", "seed"), ("guidance-scale", "guidance_scale"), ("model_name", "model"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [IMAGES, VIDEOS])
def test_names_of_other_apis_lead_to_ours(server: Server, path: str, name: str, meant: str) -> None:
    error = problem(server.post(path, {"prompt": "x", name: 3}))
    assert (error["param"], error["code"]) == (name, "unknown_parameter")
    assert f"did you mean `{meant}`?" in error["message"]


def test_names_that_are_right_elsewhere(server: Server) -> None:
    assert "`seconds`" in problem(server.post(VIDEOS, {"prompt": "x", "duration": 4}))["message"]
    assert (
        "`output_format`" in problem(server.post(IMAGES, {"prompt": "x", "format": 1}))["message"]
    )
    wrapped = problem(server.post(IMAGES, {"prompt": "x", "extra_body": {"seed": 1}}))
    assert "parameters of the request itself" in wrapped["message"]
    scheduler = problem(server.post(IMAGES, {"prompt": "x", "scheduler": "euler"}))
    assert "when the server starts" in scheduler["message"]


@pytest.mark.parametrize("path", [IMAGES, VIDEOS, EDITS])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "zstd", "deflate"])
def test_compressed_bodies_are_named(server: Server, path: str, encoding: str) -> None:
    body = gzip.compress(json.dumps({"prompt": "x"}).encode())
    type = "multipart/form-data; boundary=b" if path == EDITS else JSON["content-type"]
    headers = {"content-type": type, "content-encoding": encoding}
    error = problem(server.post(path, content=body, headers=headers), 415)
    assert (error["param"], error["code"]) == ("Content-Encoding", "unsupported_content_encoding")
    assert "uncompressed" in error["message"]


def test_a_compressed_body_without_its_header(server: Server) -> None:
    body = gzip.compress(b'{"prompt": "x"}')
    assert "compressed" in problem(server.post(IMAGES, content=body, headers=JSON))["message"]
    headers = JSON | {"content-encoding": "identity"}
    assert server.post(IMAGES, content=b'{"prompt": "x"}', headers=headers).status_code == 200


@pytest.mark.parametrize("path", [IMAGES, VIDEOS])
@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"prompt": "x", "seed": 1, "seed": 2}', "seed"),
        (b'{"prompt": "x", "prompt": "x"}', "prompt"),
        (b'{"prompt": "x", "user": {"a": 1, "a": 2}}', "a"),
    ],
)
def test_duplicate_keys_are_refused(server: Server, path: str, body: bytes, name: str) -> None:
    error = problem(server.post(path, content=body, headers=JSON))
    assert (error["param"], error["code"]) == (name, "duplicate_key")
    assert "twice" in error["message"]


@pytest.mark.parametrize("query", ["limit=1&limit=2", "order=asc&order=desc"])
def test_duplicate_query_parameters_are_refused(server: Server, query: str) -> None:
    assert "2 times" in problem(server.get(f"{VIDEOS}?{query}"))["message"]


def test_empty_form_fields_are_absent_fields(server: Server) -> None:
    names = "model seconds size seed fps n user negative_prompt output_quality"
    empty = dict.fromkeys(names.split(), "")
    form = {"prompt": PROMPT, "num_frames": "5", **empty}
    made = server.post(VIDEOS, data=form, files={"input_reference": ("", b"")})
    assert made.status_code == 200, made.text
    assert made.json()["num_outputs"] == 1
    missing = problem(
        server.post(VIDEOS, data={"prompt": ""}, files={"input_reference": ("", b"")})
    )
    assert (missing["param"], missing["code"]) == ("prompt", "missing_required_parameter")
    image = problem(server.post(EDITS, data={"prompt": "x"}, files={"image": ("", b"")}))
    assert (image["param"], image["code"]) == ("image", "missing_required_parameter")


@pytest.mark.parametrize("path", [IMAGES, VIDEOS])
@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_a_prompt_of_blanks_is_empty(server: Server, path: str, prompt: str) -> None:
    error = problem(server.post(path, {"prompt": prompt}))
    assert error["param"] == "prompt"
    assert "empty" in error["message"]


@pytest.mark.parametrize("path", [IMAGES, VIDEOS])
@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, [1, -1]])
def test_a_bad_seed_says_how_to_have_a_random_one(server: Server, path: str, seed: Any) -> None:
    error = problem(server.post(path, {"prompt": "x", "seed": seed}))
    assert error["param"] == "seed"
    assert "random" in error["message"]


def test_answers_tell_the_seed_of_each_sample(image: dict[str, Any], clip: str) -> None:
    assert image["seeds"] == [5, 6] == [item["seed"] for item in image["data"]]
    assert httpx.get(clip).json()["seeds"] == [8, 3]


def test_the_default_seed_is_told(server: Server) -> None:
    answer = server.post(IMAGES, {"prompt": PROMPT}).json()
    again = server.post(IMAGES, {"prompt": PROMPT, "seed": answer["data"][0]["seed"]}).json()
    assert again["data"][0]["b64_json"] == answer["data"][0]["b64_json"]


RANGES: list[tuple[str, int, str | None]] = [
    ("bytes=0-1", 206, "bytes 0-1/{size}"),
    ("bytes=-1", 206, "bytes {last}-{last}/{size}"),
    ("bytes=0-99999999", 206, "bytes 0-{last}/{size}"),
    ("bytes=-99999999", 206, "bytes 0-{last}/{size}"),
    ("BYTES=0-0", 206, "bytes 0-0/{size}"),
    ("bytes=0-0,99999999-", 206, "bytes 0-0/{size}"),
    ("bytes=5-2", 200, None),
    ("bytes=", 200, None),
    ("bytes=-", 200, None),
    ("bytes=a-b", 200, None),
    ("bytes=1-2-3", 200, None),
    ("bytes 0-1", 200, None),
    ("items=0-1", 200, None),
    ("bytes=0-1,5-2", 200, None),
    ("bytes=+1-2", 200, None),
    ("bytes=" + ",".join(f"{i}-{i}" for i in range(50)), 200, None),
    ("bytes=99999999-", 416, "bytes */{size}"),
    ("bytes=-0", 416, "bytes */{size}"),
]


@pytest.mark.parametrize(
    ("header", "status", "content_range"), RANGES, ids=[r[0][:24] for r in RANGES]
)
def test_ranges_are_those_of_the_rfc(
    image: dict[str, Any], clip: str, header: str, status: int, content_range: str | None
) -> None:
    for url in (image["data"][0]["url"], f"{clip}/content"):
        whole = httpx.get(url).content
        answer = httpx.get(url, headers={"Range": header})
        assert answer.status_code == status
        wanted = content_range and content_range.format(size=len(whole), last=len(whole) - 1)
        assert answer.headers.get("content-range") == wanted
        assert answer.headers["accept-ranges"] == "bytes"
        if status == 200:
            assert answer.content == whole
        if status == 416:
            assert answer.json()["error"]["code"] == "range_not_satisfiable"


def test_if_range_and_head(clip: str) -> None:
    url = f"{clip}/content"
    whole = httpx.head(url)
    etag = whole.headers["etag"]
    for condition, status in ((etag, 206), (whole.headers["last-modified"], 206), ('"x"', 200)):
        headers = {"Range": "bytes=0-1", "If-Range": condition}
        assert httpx.get(url, headers=headers).status_code == status
    assert httpx.get(url, headers={"Range": "bytes=99999999-", "If-Range": '"x"'}).is_success
    head = httpx.head(url, headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.headers["content-length"]) == (
        200,
        whole.headers["content-length"],
    )


def test_media_are_inline_unless_download(image: dict[str, Any], clip: str) -> None:
    joined = [
        image["data"][0]["url"] + "&",
        f"{clip}/content?",
        f"{clip}/content?variant=thumbnail&",
    ]
    for url in joined:
        for query in ("", "download=0", "download="):
            assert (
                httpx.get(url + query)
                .headers["content-disposition"]
                .startswith("inline; filename=")
            )
        for query in ("download=1", "download=true"):
            assert httpx.get(url + query).headers["content-disposition"].startswith("attachment; ")
        assert problem(httpx.get(url + "download=maybe"))["param"] == "download"


def test_pages_of_other_origins_read_what_players_need(clip: str, server: Server) -> None:
    answer = httpx.get(f"{clip}/content", headers=ORIGIN | {"Range": "bytes=0-1"})
    exposed = {
        name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")
    }
    assert {"content-range", "accept-ranges", "content-length", "x-request-id"} <= exposed
    failed = httpx.get(f"{clip}/content", headers=ORIGIN | {"Range": "bytes=99999999-"})
    assert failed.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    for method in ("HEAD", "GET", "POST", "DELETE"):
        asked = ORIGIN | {"Access-Control-Request-Method": method,
                          "Access-Control-Request-Headers": "authorization,range"}  # fmt: skip
        assert httpx.options(server.url + VIDEOS, headers=asked).status_code == 200


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/images/generations/", IMAGES), ("/images/generations", IMAGES),
        ("/v1/v1/videos", VIDEOS), ("//v1/videos", VIDEOS), ("/v1/image/generations", IMAGES),
        ("/v1/images/generation", IMAGES), ("/v1/health", "/health"), ("/v1/videos/", VIDEOS),
    ],
)  # fmt: skip
def test_paths_that_are_almost_right(server: Server, path: str, meant: str) -> None:
    error = problem(server.post(path, {"prompt": "x"}), 404)
    assert f"did you mean `{meant}`?" in error["message"]


def test_what_had_no_effect_is_in_warnings(server: Server) -> None:
    body = {"prompt": PROMPT, "style": "vivid", "user": "me", "moderation": None}
    assert server.post(IMAGES, body).json()["warnings"] == ["`style` has no effect on this server"]
    assert server.post(IMAGES, {"prompt": PROMPT}).json()["warnings"] == []
    clip = server.post(VIDEOS, {"prompt": PROMPT, "seconds": "4"}).json()
    (warning,) = clip["warnings"]
    assert "`seconds` is 4, but the video has 1.06 s" in warning
    wait_until(lambda: server.get(f"{VIDEOS}/{clip['id']}").json()["status"] == "completed")
    assert server.get(f"{VIDEOS}/{clip['id']}").json()["warnings"] == [warning]
