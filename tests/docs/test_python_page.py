"""docs/python.md and docs/notebook.ipynb are run as they stand; previews show what a run has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from runtime import Cancelled, Runtime, UserError
from runtime.events import Stepped
from runtime.files.video_files import read_video
from tests.support.tiny import flux

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("only_trained")
SMALL: dict[str, Any] = dict(prompt="a red circle on a blue background", seed=1)


class Display:
    """What a notebook draws on: each call opens a place, which later pictures replace."""

    def __init__(self) -> None:
        self.pictures: list[Image.Image] = []

    def __call__(self, *pictures: Image.Image, display_id: bool = False) -> Display:
        assert display_id or pictures
        self.pictures += pictures
        return self

    def update(self, picture: Image.Image) -> None:
        self.pictures.append(picture)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/python.md").read_text("utf-8")
    display = Display()
    names: dict[str, Any] = {"display": display}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "`height` expects a multiple of 32 px, got 100 | the nearest that fits is 128" in printed
    assert "stopped" in printed
    assert re.search(r"node `denoise` .* failed: .*NotFinite: .* in step 1 of 2", printed)
    assert (tmp_path / "pictures/square.png").is_file()
    steps = [f"step_{i}.png" for i in (2, 4, 6)]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["circle.png", *steps]
    assert len(display.pictures) == 12


def test_the_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text("utf-8"))["cells"]
    display = Display()
    names: dict[str, Any] = {"display": display}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert [p.size for p in display.pictures] == [(256, 256)] * 12 + [(128, 128)]
    assert capsys.readouterr().out.split("\n")[-2] == "stopped"


def previews(run: Any) -> list[Image.Image]:
    return [run.preview() for event in run if isinstance(event, Stepped)]


def test_previews_come_nearer_and_end_as_the_result() -> None:
    runtime = Runtime.load(None, {"memo.max_mb": 0})
    run = runtime.start(**SMALL, num_inference_steps=4)
    steps = [np.asarray(p, dtype=np.float32) for p in previews(run)]
    result = run.result.outputs["video"].frames[0].numpy()
    assert len(steps) == 4
    away = [float(np.abs(p - result).mean()) for p in steps]
    assert away == sorted(away, reverse=True)
    assert away[0] > 10 > away[-1] == 0
    again = runtime.generate(**SMALL, num_inference_steps=4).outputs["video"].frames[0].numpy()
    np.testing.assert_array_equal(again, result)  # looking on changed nothing


def test_a_result_is_saved_by_suffix(tmp_path: Path) -> None:
    result = Runtime.load().generate(**SMALL, num_inference_steps=1, num_frames=5)
    frames = result.video.frames.numpy()
    np.testing.assert_array_equal(np.asarray(result.image), frames[0])
    for name in ("x.mp4", "x.webp", "x.gif"):
        path = result.save(tmp_path / "new" / name)
        assert len(read_video(path)[0]) == 5
    np.testing.assert_array_equal(np.load(result.save(tmp_path / "x.npy")), frames)
    for name, message in (("x.png", "5 frames"), ("x", "no suffix"), ("x.bmp", "bmp")):
        with pytest.raises(UserError, match=message):
            result.save(tmp_path / name)
    written = Runtime.load(None, {"output.path": str(tmp_path)}).generate(
        **SMALL, num_inference_steps=1, outputs=["file"]
    )
    with pytest.raises(UserError, match="no picture and no clip in memory; its outputs are: file"):
        written.save(tmp_path / "y.png")


def test_a_run_that_only_writes_a_file_has_previews_too(tmp_path: Path) -> None:
    runtime = Runtime.load(None, {"output.path": str(tmp_path)})
    run = runtime.start(**SMALL, num_inference_steps=2, num_frames=5, outputs=["file"])
    decoded = []
    for event in run:
        if isinstance(event, Stepped):
            assert not list(tmp_path.iterdir())
            decoded += [run.preview(), run.preview(frame=-1)]
    assert [p.size for p in decoded] == [(128, 128)] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_model_and_its_vanilla_pipeline(tmp_path: Path) -> None:
    folder = flux.checkpoint(tmp_path / "model")
    request: dict[str, Any] = dict(prompt="a cat", height=32, width=48, num_inference_steps=2)
    run = Runtime.load(folder).start(**request)
    *_, last = previews(run)
    np.testing.assert_array_equal(np.asarray(last), run.result.outputs["image"].pixels.numpy())
    vanilla = Runtime.load(folder, {"model.backend": "diffusers"}).start(**request)
    with pytest.raises(UserError, match="does not show the latents of its steps"):
        previews(vanilla)


def test_there_is_no_preview_before_the_first_step_or_after_the_last() -> None:
    run = Runtime.load().start(**SMALL, num_inference_steps=2)
    with pytest.raises(RuntimeError, match="has not begun, or is over"):
        run.preview()
    next(iter(run))
    with pytest.raises(RuntimeError, match="no step is done"):
        run.preview()
    for event in run:
        if isinstance(event, Stepped):
            run.cancel()
            break
    with pytest.raises(Cancelled):
        list(run)
    with pytest.raises(RuntimeError, match="is over"):
        run.preview()
