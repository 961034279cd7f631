"""Kind 3 of issue 10 over HTTP: multipart, JSON and data URLs, on a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.field.test_pictures import png
from tests.support.scenes import scene
from tests.support.servers import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("uploads"), "--graph", "demo_edit") as made:
        yield made


def encoded(kind: str, image: Any = None, **options: Any) -> bytes:
    file = BytesIO()
    (image or Image.fromarray(scene(64, 64))).save(file, kind, **options)
    return file.getvalue()


def edit(server: Server, data: bytes, name: str = "p.jpg") -> httpx.Response:
    fields = {"prompt": "a red circle on a blue background", "size": "64x64"}
    files = {"image": (name, data, "image/jpeg")}
    return server.post("/v1/images/edits", data=fields, files=files)


FLOAT = Image.fromarray(np.full((64, 64), 0.5, np.float32))
KINDS = {
    "MPO": encoded("MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
    "TIFF": encoded("TIFF"),
    "AVIF": encoded("AVIF"),
    "CMYK": encoded("JPEG", Image.fromarray(scene(64, 64)).convert("CMYK")),
    "float": encoded("TIFF", FLOAT),
    "PPM": encoded("PPM"),
    "GIF": encoded("GIF"),
    "16 bit": png(16, 2, [bytes(48)] * 8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind(kind: str, server: Server) -> None:
    """C01, N05, N10."""
    answer = edit(server, KINDS[kind])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%PDF-1.4", "a PDF document"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "an MP4 clip"),
        (encoded("TIFF", Image.fromarray(np.full((8, 8), np.nan, np.float32))), "floating point"),
        (encoded("PNG")[:200], "is damaged"),
        (b"", "an empty file"),
    ],
    ids=["svg", "pdf", "mp4", "nan", "cut", "empty"],
)
def test_what_is_refused_gets_a_400_that_names_it(data: bytes, name: str, server: Server) -> None:
    """N10."""
    answer = edit(server, data)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == "image"
    assert name in error["message"]


def test_data_urls(server: Server) -> None:
    """C17: in JSON and in a form; also such as are larger than a JSON body without pictures."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    code = base64.encodebytes(encoded("PNG", Image.fromarray(noise))).decode()
    assert len(code) > 1 << 20
    body = {"prompt": "a red circle on a blue background", "size": "64x64"}
    form = {**body, "image": f"data:image/png;base64,{code}"}
    answer = server.post("/v1/images/edits", files={k: (None, v) for k, v in form.items()})
    assert answer.status_code == 200, answer.text[:300]
    reference = {"image_url": f"data:image/png;base64,{code}"}
    video = {**body, "input_reference": reference, "seconds": "0.1"}
    answer = server.post("/v1/videos", video)
    assert answer.status_code == 200, answer.text[:300]


def test_base64_alone_is_told_how_to_be_written(server: Server) -> None:
    """C17."""
    code = base64.b64encode(encoded("PNG")).decode()
    body = {"prompt": "x", "input_reference": {"image_url": code}}
    answer = server.post("/v1/videos", body)
    assert answer.status_code == 400
    assert "data:image/png;base64," in answer.json()["error"]["message"]
    assert len(answer.text) < 400
