"""The graph demo_edit against diffusers' own video-to-video pipeline, and what pictures may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cli.main import main
from demo.classify import read_picture
from nodes.latents import AddNoise
from nodes.schedule import steps_to_skip
from runtime import Runtime, UserError
from runtime.configure.request_values import port_value
from runtime.contract import values
from runtime.files.image_files import read_image
from runtime.graph.typed import request_port
from runtime.plan.content_keys import pictures_key
from runtime.settings.field import Field
from tests.support.tiny import wan
from tests.support.tiny.demo_edit import vanilla

DEMO = Path(__file__).parents[2] / "demo/checkpoint"
PROMPT = "a blue circle on a red background"
Pixels = NDArray[np.uint8]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def edit() -> Runtime:
    return Runtime.load(graph="demo_edit")


def scene(height: int = 130, width: int = 90) -> Image.Image:
    """A red circle on blue."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(height, width) / 4) ** 2
    return Image.fromarray(
        np.where(inside[..., None], [225, 30, 35], [35, 80, 225]).astype(np.uint8)
    )


def frames(runtime: Runtime, picture: Any, **request: Any) -> Pixels:
    request = {"prompt": PROMPT, "height": 64, "width": 64, "num_inference_steps": 2, **request}
    video = runtime.generate(image_path=picture, **request).outputs["video"]
    return np.asarray(video.frames.numpy())


CASES = [
    ("demo", 96, 160, dict(strength=0.6, guidance_scale=2.5)),
    ("demo", 192, 64, dict(strength=0.34, guidance_scale=1.0)),
    ("demo", 64, 96, dict(strength=0.5, guidance_scale=2.5, num_frames=5)),
    ("wan", 64, 96, dict(strength=0.67, guidance_scale=3.0, num_frames=5)),
]


@pytest.mark.parametrize(
    ("name", "height", "width", "call"), CASES, ids=[f"{c[0]}-{c[1]}x{c[2]}" for c in CASES]
)
def test_edits_equal_diffusers(
    name: str, height: int, width: int, call: dict[str, Any], tmp_path: Path, edit: Runtime
) -> None:
    model = DEMO if name == "demo" else wan.checkpoint(tmp_path / "wan")
    runtime = edit if name == "demo" else Runtime.load(model, graph="demo_edit")
    call = {**call, "height": height, "width": width, "num_inference_steps": 6, "seed": 7}
    reference = vanilla(model, scene(), prompt=PROMPT, **call)
    got = frames(runtime, scene(), prompt=PROMPT, **call)
    assert got.shape == reference.shape
    assert reference.std() > 5
    assert int(np.abs(got.astype(int) - reference).max()) <= 1


def test_a_picture_is_recoloured(edit: Runtime) -> None:
    size = {"height": 128, "width": 128, "num_inference_steps": 12}
    seen = read_picture(frames(edit, scene(), **size)[0]).words()
    assert (seen["background"], seen["colour"], seen["shape"]) == ("red", "blue", "circle")


def test_little_strength_leaves_the_picture(edit: Runtime) -> None:
    size = {"height": 128, "width": 128, "num_inference_steps": 50}
    before = np.asarray(scene(128, 128)).astype(int)
    after = frames(edit, scene(128, 128), strength=0.02, **size)[0]
    assert np.abs(after - before).mean() < 10


def test_full_strength_is_the_graph_without_a_picture(edit: Runtime) -> None:
    request = {"height": 64, "width": 64, "num_inference_steps": 2, "num_frames": 5, "seed": 3}
    plain = Runtime.load().generate(prompt=PROMPT, **request).outputs["video"].frames.numpy()
    np.testing.assert_array_equal(frames(edit, scene(), strength=1, **request), plain)
    made = edit.plan(prompt=PROMPT, image_path=scene(), strength=1)
    assert made.dropped["start"] == "bypassed: its latents is `noise.latents`"
    assert "encoded" in made.dropped
    assert AddNoise.bypass(strength=0.99) is None


@pytest.mark.parametrize(
    ("steps", "strength", "left"),
    [(12, 1.0, 12), (12, 0.99, 11), (12, 0.5, 6), (12, 0.02, 1), (1, 0.5, 1), (1000, 0.02, 20)],
)
def test_strength_takes_the_last_steps(steps: int, strength: float, left: int) -> None:
    assert steps - steps_to_skip(steps, strength) == left


def as_grey(folder: Path, picture: Image.Image) -> tuple[Path, Image.Image]:
    grey = picture.convert("L")
    grey.save(folder / "x.png")
    return folder / "x.png", grey.convert("RGB")


def as_palette(folder: Path, picture: Image.Image) -> tuple[Path, Image.Image]:
    few = picture.quantize(16)
    few.save(folder / "x.gif")
    with Image.open(folder / "x.gif") as image:
        return folder / "x.gif", image.convert("RGB")


def as_transparent(folder: Path, picture: Image.Image) -> tuple[Path, Image.Image]:
    clear = picture.convert("RGBA")
    alpha = Image.new("L", clear.size, 255)
    alpha.paste(0, (0, 0, 40, 40))
    clear.putalpha(alpha)
    clear.save(folder / "x.webp", lossless=True)
    flat = picture.copy()
    flat.paste((255, 255, 255), (0, 0, 40, 40))
    return folder / "x.webp", flat


def as_turned(folder: Path, picture: Image.Image) -> tuple[Path, Image.Image]:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    picture.save(folder / "x.png", exif=exif)
    return folder / "x.png", picture.rotate(-90, expand=True)


@pytest.mark.parametrize("kind", [as_grey, as_palette, as_transparent, as_turned])
def test_kinds_of_pictures(
    kind: Callable[[Path, Image.Image], tuple[Path, Image.Image]], tmp_path: Path, edit: Runtime
) -> None:
    picture = scene()
    picture.paste((250, 220, 10), (60, 0, 90, 50))  # so that turning shows
    path, same = kind(tmp_path, picture)
    request = {"strength": 0.5}
    np.testing.assert_array_equal(frames(edit, path, **request), frames(edit, same, **request))


def test_python_gives_paths_pictures_and_arrays(tmp_path: Path, edit: Runtime) -> None:
    picture, path = scene(), tmp_path / "x.png"
    picture.save(path)
    grey = np.asarray(picture.convert("L"))
    wanted = frames(edit, str(path), strength=0.5)
    for given in (path, picture, np.asarray(picture)):
        np.testing.assert_array_equal(frames(edit, given, strength=0.5), wanted)
    same = [frames(edit, a, strength=0.5) for a in (grey, grey[..., None], np.dstack([grey] * 3))]
    assert all((s == same[0]).all() for s in same)


def test_the_same_pixels_are_the_same_picture(tmp_path: Path, edit: Runtime) -> None:
    """Encoded once whatever its name; another picture under the same name is another."""
    first, second = tmp_path / "a.png", tmp_path / "b.webp"
    scene().save(first)
    scene().save(second, lossless=True)

    def key(path: Path) -> str:
        return edit.plan(prompt=PROMPT, image_path=str(path)).keys["encoded"]

    before = key(first)
    assert key(second) == before
    scene(91, 90).save(first)
    assert key(first) != before


def test_command_line(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scene().save("x.png")
    words = ["generate", "--graph", "demo_edit", "--image-path", "x.png", "--prompt", PROMPT]
    words += ["--strength", "0.5", "--num-inference-steps", "4", "--height", "64", "--width", "96"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert read_image(Path(said.out.strip())).shape == (64, 96, 3)
    assert "denoise: step 2/2" in said.err


NO_FILES: dict[str, bytes] = {}
TAKES = (
    "prompt, negative_prompt, height, width, num_frames, fps, num_inference_steps, "
    "guidance_scale, flow_shift, max_sequence_length, seed"
)
MISTAKES: list[tuple[str, list[str], dict[str, bytes], str]] = [
    ("missing", [], NO_FILES,
     f"`--image-path` is required and not given. Graph `demo_edit` takes: {TAKES}, image_path, "
     "strength.\nhelp: add `--image-path ...`"),
    ("no such file", ["--image-path", "x.png"], NO_FILES,
     "--image-path: x.png does not exist\nhelp: give the path of a picture"),
    ("a folder", ["--image-path", "."], NO_FILES,
     "--image-path: . is a folder, not a picture\nhelp: give the path of a picture"),
    ("empty", ["--image-path="], NO_FILES,
     "--image-path: expects a picture: the path of a file, an http(s) or data URL, or from Python "
     "a PIL image or an array\nhelp: give the path of a picture"),
    ("not a picture", ["--image-path", "x.png"], {"x.png": b"%!PS-Adobe-3.0 EPSF-3.0\n"},
     "--image-path: x.png is a PostScript document, which is not a picture format that can be "
     "read\nhelp: give a PNG, JPEG or WebP picture"),
    ("two", ["--image-path", "x.png", "y.png"], NO_FILES,
     "--image-path takes one value, got 2: x.png, y.png\nhelp: give a single value"),
    ("scheme", ["--image-path", "ftp://host/x.png"], NO_FILES,
     "--image-path: ftp:// URLs are not fetched\nhelp: give a file, or an http:// or https:// URL"),
    ("login", ["--image-path", "https://me:secret@host/x.png"], NO_FILES,
     "--image-path: the URL at host has a login in it\n"
     "help: give one that works without a login"),
    ("strength", ["--image-path", "x.png", "--strength", "0"], {"x.png": b""},
     "--image-path: x.png is an empty file, which is not a picture format that can be read\n"
     "    help: give a PNG, JPEG or WebP picture\n"
     "--strength expects at least 0.02, got 0.0"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "files", "says"), [m[1:] for m in MISTAKES],
                         ids=[m[0] for m in MISTAKES])  # fmt: skip
def test_mistakes(
    argv: list[str],
    files: dict[str, bytes],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert main(["generate", "--graph", "demo_edit", "--prompt", "x", *argv]) == 2
    said = capsys.readouterr()
    separator = "\n" if said.err.startswith("sglang generate: error:\n") else " "
    assert said.err == f"sglang generate: error:{separator}{says}\n"
    assert said.out == ""


def test_a_graph_without_pictures_says_what_it_takes(capsys: Capture) -> None:
    assert main(["generate", "--prompt", "x", "--image-path", "x.png"]) == 2
    told = f"--image-path: graph `demo` takes no `image_path`. It takes: {TAKES}.\n"
    help = "graph `demo_edit` takes it with the same model: add `--graph demo_edit`"
    assert capsys.readouterr().err == f"sglang generate: error: {told}help: {help}\n"


def test_damage_is_found_before_anything_is_loaded(tmp_path: Path, edit: Runtime) -> None:
    path = tmp_path / "x.jpg"
    Image.effect_noise((128, 128), 90).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"`request.image_path`: .*x\.jpg is damaged"):
        next(iter(edit.start(prompt="x", image_path=str(path))))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (5, "`image_path`: expects a picture: the path of a file"),
        (np.zeros((4, 4, 2), np.uint8), "got 4 x 4 x 2 uint8"),
        (np.zeros((0, 4, 3), np.uint8), "got 0 x 4 x 3 uint8"),
        (np.zeros((4, 4, 3)), "got 4 x 4 x 3 float64"),
    ],
)
def test_values_that_are_no_pictures(given: Any, says: str, edit: Runtime) -> None:
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        edit.validate(prompt="x", image_path=given)


def test_no_checkpoint_chooses_it() -> None:
    assert Runtime.load(DEMO).graph.name == "demo"
    row = next(row for row in Runtime.graphs() if row["name"] == "demo_edit")
    assert row["classes"] == []
    Runtime.check_graph("demo_edit")


def test_a_field_may_take_several(tmp_path: Path, edit: Runtime) -> None:
    field = Field("pictures", type="image", many=True)
    graph = dataclasses.replace(edit.graph, request={"pictures": field})
    assert request_port(graph, "pictures") == tuple[values.Image, ...] | None
    for n in range(2):
        scene(8 + n, 9).save(tmp_path / f"{n}.png")
    paths = field.parse([str(tmp_path / "0.png"), str(tmp_path / "1.png")])
    first, second = port_value(field, paths, {})
    assert (first.pixels.shape, second.pixels.shape) == ((8, 9, 3), (9, 9, 3))
    assert pictures_key((first, second)) != pictures_key((second, first))
    assert port_value(field, None, {}) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere.mp4", "nowhere.mp4 does not exist"),
        (
            np.zeros((5, 8, 8), np.uint8),
            "axes f h w 3 and is uint8, got 5 x 8 x 8 uint8",
        ),
        (7, "expects a clip"),
        ("ftp://there/x.mp4", "ftp:// URLs are not fetched"),
    ],
)
def test_values_that_are_no_clips(given: Any, says: str) -> None:
    runtime = Runtime.load(graph="wan2_1_v2v", model=DEMO)
    with pytest.raises(UserError, match=says):
        runtime.validate(prompt="x", video_path=given)


def test_a_clip_that_is_too_short() -> None:
    runtime = Runtime.load(graph="wan2_1_v2v", model=DEMO)
    clip = np.zeros((6, 32, 32, 3), np.uint8)
    with pytest.raises(UserError, match=r"num_frames` is 81, and the clip has 6") as caught:
        runtime.generate(prompt="x", video_path=clip, height=64, width=64, num_inference_steps=2)
    assert caught.value.help == "give a longer clip, or ask for 5 frames"
