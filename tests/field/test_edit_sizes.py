"""Edits without a size keep the aspect ratio of their picture; a given size is obeyed.

Sources and kinds: `cases/nodes.md`.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from cli.main import main
from runtime import Runtime
from runtime.configure.request_values import port_value, sizes
from runtime.provenance.read_back import provenance
from tests.support.servers import serving
from tests.support.tiny import flux, glm, wan, wan_i2v

STEP = {"prompt": "a red circle", "num_inference_steps": 1}


def picture(width: int, height: int) -> Image.Image:
    """A picture of a size, of which no two rows or columns are equal."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([255 * rows / height, 255 * columns / width, 0 * rows], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def decided(runtime: Runtime, **request: Any) -> tuple[int, int]:
    """Width and height of a request as the run would have them; nothing is computed."""
    complete = runtime.validate(**request)
    ports = {n: port_value(runtime.fields[n], v, complete) for n, v in complete.items()}
    ports |= sizes(runtime.fields, ports)
    return ports["width"], ports["height"]


@pytest.mark.parametrize(
    ("brought", "made"),
    [
        ((256, 128), (128, 64)),
        ((128, 256), (64, 128)),
        ((400, 400), (128, 128)),
        ((4000, 3000), (128, 96)),
        ((64, 64), (128, 128)),
        ((1000, 10), (256, 64)),  # as near as the model comes
    ],
)
def test_the_size_follows_the_picture(brought: tuple[int, int], made: tuple[int, int]) -> None:
    edit = Runtime.load(graph="demo_edit")
    assert decided(edit, **STEP, image_path=picture(*brought)) == made


def test_a_given_size_is_obeyed_and_one_side_decides_the_other() -> None:
    edit, wide = Runtime.load(graph="demo_edit"), picture(256, 128)
    assert decided(edit, **STEP, image_path=wide, width=128, height=128) == (128, 128)
    assert decided(edit, **STEP, image_path=wide, width=256, height=128) == (256, 128)
    assert decided(edit, **STEP, image_path=wide, width=256) == (256, 128)
    assert decided(edit, **STEP, image_path=wide, height=96) == (192, 96)


def test_a_size_of_settings_is_a_given_one() -> None:
    edit = Runtime.load(None, {"request.height": 64, "request.width": 64}, graph="demo_edit")
    assert decided(edit, **STEP, image_path=picture(256, 128)) == (64, 64)


def test_the_file_has_the_size_and_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.png"
    picture(256, 128).save(path)
    words = ["--graph=demo_edit", "--prompt=a red circle", "--num-inference-steps=1"]
    assert main(["generate", *words, f"--image-path={path}", f"--output-path={tmp_path}"]) == 0
    made = Path(capsys.readouterr().out.strip())
    with Image.open(made) as result:
        assert result.size == (128, 64)
    request = provenance(made)["request"]
    assert (request["width"], request["height"]) == (128, 64)


def test_a_portrait_as_first_frame_makes_a_portrait_video(tmp_path: Path) -> None:
    runtime = Runtime.load(wan_i2v.checkpoint(tmp_path / "i2v"))
    assert decided(runtime, prompt="x", image_path=picture(1080, 1920)) == (464, 832)
    assert decided(runtime, prompt="x", image_path=picture(832, 480)) == (832, 480)


def test_a_clip_keeps_its_shape(tmp_path: Path) -> None:
    runtime = Runtime.load(wan.checkpoint(tmp_path / "wan"), graph="wan2_1_v2v")
    clip = np.zeros((5, 64, 32, 3), np.uint8)
    width, height = decided(runtime, prompt="x", video_path=clip)
    assert (height, width) == (864, 432)


def test_kontext_draws_the_shape_of_its_picture(tmp_path: Path) -> None:
    runtime = Runtime.load(flux.kontext(tmp_path / "kontext"))
    small = {"max_area": 64 * 64, **STEP}
    wide = runtime.generate(image_path=picture(256, 64), **small).outputs["image"].pixels
    assert wide.shape[1] > 2 * wide.shape[0]
    square = runtime.generate(**small).outputs["image"].pixels
    assert square.shape[:2] == (64, 64)


def test_several_pictures_give_the_shape_of_the_first(tmp_path: Path) -> None:
    runtime = Runtime.load(glm.checkpoint(tmp_path / "glm"))
    pictures = [picture(300, 100), picture(100, 300)]
    width, height = decided(runtime, prompt="x", image_path=pictures)
    assert abs(width / height - 3) < 0.1
    assert width * height <= 1024 * 1024
    assert decided(runtime, prompt="x") == (1024, 1024)


def test_over_http_the_answer_has_the_size_of_its_file(tmp_path: Path) -> None:
    stored = BytesIO()
    picture(256, 128).save(stored, "PNG")
    free = ("request.height=null", "request.width=null")
    with serving(tmp_path, "--graph", "demo_edit", *free) as server:
        for size, made in ((None, "128x64"), ("auto", "128x64"), ("128x128", "128x128")):
            answer = httpx.post(
                f"{server.url}/v1/images/edits",
                files={"image": ("wide.png", stored.getvalue(), "image/png")},
                data={"prompt": "a red circle", **({"size": size} if size else {})},
                timeout=120,
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["size"] == made
