"""Photos of phones are taken, more pixels are a clear 400, alpha goes where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import Runtime, UserError
from runtime.files.content_type import SIGNATURES
from runtime.files.input_pictures import read_picture
from runtime.files.video_files import check_video, write_video
from tests.support.servers import Server, serving
from tests.support.tiny.qwen import layered_checkpoint, layers

EDITS = "/v1/images/edits"
FORM = {"prompt": "a red circle on a blue background", "size": "128x128"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ("--graph", "demo_edit", "request.num_inference_steps=1")
    with serving(tmp_path_factory.mktemp("photos"), *options) as made:
        yield made


def photo(width: int, height: int) -> bytes:
    data = BytesIO()
    Image.new("RGB", (width, height), "red").save(data, "JPEG")
    return data.getvalue()


def test_a_photo_of_24_megapixels(server: Server) -> None:
    answer = server.post(EDITS, data=FORM, files={"image": ("photo.jpg", photo(6000, 4000))})
    assert answer.status_code == 200, answer.text
    assert answer.json()["size"] == "128x128"


def test_more_pixels_than_the_server_reads(server: Server) -> None:
    answer = server.post(EDITS, data=FORM, files={"image": ("wall.jpg", photo(12500, 10000))})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "image"
    assert "12500x10000 pixels; 120000000 are the most" in error["message"]


def test_clips_are_known_by_the_table_of_files(tmp_path: Path) -> None:
    assert all(c.demuxer for _, c in SIGNATURES if c.kind == "clip")
    path = tmp_path / "clip"
    write_video([np.zeros((64, 64, 3), np.uint8)] * 3, path.with_suffix(".mp4"), fps=8)
    assert check_video(path.with_suffix(".mp4"), max_pixels=4096) == ".mp4"
    with pytest.raises(UserError, match="64x64 pixels; 4095 are the most"):
        check_video(path.with_suffix(".mp4"), max_pixels=4095)
    path.write_bytes(b"\x01#EXTM3U\nfile:///etc/hostname\n")  # FFmpeg would try playlists too
    with pytest.raises(UserError, match="unknown kind"):
        check_video(path, max_pixels=4096)


def test_alpha_reaches_a_model_that_takes_it(tmp_path: Path) -> None:
    model = layered_checkpoint(tmp_path / "model")
    ramp = np.linspace(0, 255, 90 * 130 * 4).reshape(90, 130, 4).astype(np.uint8)
    picture = Image.fromarray(ramp)
    request = dict(prompt="a cat", num_inference_steps=2, layers=2, seed=1)
    runtime = Runtime.load(model)
    made = runtime.generate(**request, guidance_scale=1.0, image_path=picture).outputs["image"]
    expected = layers(model, request | {"true_cfg_scale": 1.0}, [picture])
    assert np.array_equal(np.stack([np.asarray(layer.pixels) for layer in made]), expected)
    opaque = runtime.generate(**request, guidance_scale=1.0, image_path=picture.convert("RGB"))
    assert not np.array_equal(opaque.outputs["image"][0].pixels, made[0].pixels)


def test_alpha_is_white_elsewhere() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert read_picture(clear, "`image_path`", "image_path").tolist()[0][0] == [255, 255, 255]
