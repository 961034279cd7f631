"""`--diff A B`: graphs, configurations, result files; bytes beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime import Runtime
from runtime.contract.outputs import Destination
from runtime.visualize import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("nothing_loaded")


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(argv) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_two_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--diff", "qwen_image_edit", "qwen_image_edit_plus")
    assert lines[0] == "qwen_image_edit | qwen_image_edit_plus"
    assert "seen - qwen_edit.ResizeToArea" in lines
    assert "positive.images pictures.images seen.images" in lines
    assert "positive.numbered - true" in lines
    assert "num_inference_steps 50 steps 40 steps" in lines


def test_equal_sides_do_not_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--diff", "flux1", "flux1") == ["flux1 | flux1", "nothing differs"]


def test_two_configurations_with_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "demo", "--diff", "", "height=64 precision.dit=bf16")
    assert lines[0] == "as it is | height=64 precision.dit=bf16"
    assert "height 128 px 64 px" in lines
    assert "transformer (dtype) float32 bfloat16" in lines
    assert 'precision.dit - "bfloat16"' in lines
    assert "load transformer 11.5 MB 5.7 MB" in lines
    assert "run noise 8.2 KB 4.1 KB" in lines
    assert lines[-1].startswith("peak 15.7 MB")


def test_what_passes_do_differs_after_them(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("wan2_1_t2v", "--stage", "prune", "--diff", "", "guidance_scale=1")
    lines = said(capsys, *words)
    assert "guided runs prune: bypassed: its denoiser is `cond.denoiser`" in lines
    assert "denoise.denoiser guided.denoiser cond.denoiser" in lines


def test_one_side_with_a_model_is_no_difference_of_every_component(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = said(capsys, "--diff", "wan2_1_t2v", "demo")
    assert "components are compared by name: one side has no model" in lines
    assert "height 480 px 128 px" in lines
    assert "load vae - 3.4 MB" in lines
    assert not any(line.startswith("vae ") for line in lines)


def test_a_side_that_cannot_be_planned_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--diff", "demo", "demo_edit")
    why = "no bytes of `demo_edit`: `request.image_path` is required"
    assert any(line.startswith(why) for line in lines)


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--format", "json", "--diff", "", "seed=7"]) == 0
    found = json.loads(capsys.readouterr().out)
    change = {"section": "request", "name": "seed", "one": "42", "two": "7"}
    assert found["changes"] == [change]
    assert found["nbytes"]["load vae"] == ["3.4 MB", "3.4 MB"]


def test_result_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = {"height": 64, "width": 64, "num_inference_steps": 1}
    for name, seed in (("a", 1), ("b", 2)):
        to = Destination(tmp_path, name, ".png")
        Runtime.load().generate(prompt="x", seed=seed, outputs=["file"], destination=to, **size)
    one, two = (str(tmp_path / f"{name}.png") for name in "ab")
    assert said(capsys, "--diff", one, two) == ["a.png | b.png", "request", "seed 1 2"]
    assert "seed 1 42" in said(capsys, "--diff", one, "demo")
    assert "height int = 64 px (at least 64, at most 256, multiple of 32; default 128)" in said(
        capsys, one
    )
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert main([str(tmp_path / "c.png")]) == 2
    assert "does not say how it was made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--diff", "height=64", "height=96"], "--diff: `height=64` names no graph"),
        (["--diff", "demo", "dmeo"], "did you mean `demo`?"),
        (["--diff", "demo", "demo height=100"], "the nearest that fits is 128"),
        (["--diff", "demo", "demo", "--format", "html"], "--diff answers as text or json"),
        (["--diff", "demo", "demo 'x"], "No closing quotation"),
        (["--diff", "a.png", "b.png"], "a.png does not exist"),
        (["nosuch.webp"], "nosuch.webp does not exist"),
        ([], "nothing is named to look at"),
    ],
)
def test_mistakes(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err
