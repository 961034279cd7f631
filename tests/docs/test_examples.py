"""The graphs of docs/examples: short, right in every editor, and they do what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # it has no types
from numpy.typing import NDArray
from PIL import Image

from cli.main import main
from runtime import Runtime
from runtime.configure.resolve import edit, resolve_graph
from runtime.graph.check import check
from runtime.inspect.json_schema import graph_schema
from tests.support.tiny import sdxl
from tests.support.tiny.rows import SHORT

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
GRAPHS = sorted(EXAMPLES.glob("*.yaml"))
PROMPT = "a red star on a blue background"


@pytest.fixture(autouse=True)
def _in_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


def made(name: str, **request: Any) -> NDArray[np.uint8]:
    """Frame 0 of what an example makes in two steps."""
    runtime = Runtime.load(graph=f"{name}.yaml")
    steps = {"num_inference_steps": 2} if "num_inference_steps" in runtime.fields else {}
    outputs = runtime.generate(**{**steps, **request}).outputs
    frames: NDArray[np.uint8] = outputs["video"].frames[0].numpy()
    return frames


@pytest.mark.parametrize("path", GRAPHS, ids=lambda p: p.stem)
def test_it_is_short_and_right(path: Path) -> None:
    lines = [x for x in path.read_text("utf-8").splitlines() if x and not x.startswith("#")]
    assert len(lines) <= 15
    check(resolve_graph([edit("graph", path.name)]))


def test_the_page_lists_each() -> None:
    page = (EXAMPLES.parent / "graphs.md").read_text("utf-8")
    missing = [path.name for path in GRAPHS if f"examples/{path.name}" not in page]
    assert not missing


def test_two_seeds_side_by_side() -> None:
    runtime = Runtime.load(graph="two_seeds.yaml")
    both = runtime.generate(prompt=PROMPT, seed=1, seed_2=2).outputs["video"].frames[0].numpy()
    assert both.shape == (128, 260, 3)
    alone = Runtime.load().generate(prompt=PROMPT, seed=2).outputs["video"].frames[0].numpy()
    assert (both[:, 132:] == alone).all()
    assert (both[:, :128] != alone).any()


def test_a_guidance_rule_of_ones_own() -> None:
    own, plain = made("own_guidance", prompt=PROMPT), Runtime.load().generate(
        prompt=PROMPT, num_inference_steps=2
    ).outputs["video"].frames[0].numpy()  # fmt: skip
    assert (own != plain).any()


def test_sharpened_before_it_is_saved(tmp_path: Path) -> None:
    sharp, plain = (made("sharpen", prompt=PROMPT, sharpness=s).astype(float) for s in (2.0, 0.0))
    edges = [np.abs(np.diff(x, axis=0)).max() for x in (sharp, plain)]
    assert edges[0] > edges[1]
    words = ["--graph", "sharpen.yaml", "--prompt", PROMPT, "--num-inference-steps", "2"]
    place = [f"--output-path={tmp_path}", "--output-file-name", "sharp.png"]
    assert main(["generate", *words, *place]) == 0
    with Image.open(tmp_path / "sharp.png") as saved:
        assert np.abs(np.asarray(saved, float) - made("sharpen", prompt=PROMPT)).max() == 0


def test_from_picture_to_picture() -> None:
    start = Image.new("RGB", (128, 128), (255, 0, 0))
    request = {"prompt": PROMPT, "image_path": start, "num_inference_steps": 12}
    near = made("image_to_image", strength=0.1, **request)
    assert near[..., 0].mean() > 200
    assert near[..., 2].mean() < 60
    assert made("image_to_image", strength=1.0, **request)[..., 2].mean() > 150


def test_a_second_pass_at_twice_the_size() -> None:
    assert made("hires_fix", prompt=PROMPT).shape == (128, 128, 3)


def test_a_prompt_that_changes_half_way() -> None:
    first, second = PROMPT, "a green square on a white background"
    never = made("prompt_change", prompt=first, prompt_2=second, change_at=1.0)
    changed = made("prompt_change", prompt=first, prompt_2=second)
    at_once = made("prompt_change", prompt=first, prompt_2=second, change_at=0.0)
    assert (never != changed).any()
    assert (changed != at_once).any()


def test_a_contact_sheet() -> None:
    sheet = made("contact_sheet").astype(float)
    assert sheet.shape == (256, 256, 3)
    corners = [sheet[y, x] for y in (4, 132) for x in (4, 132)]
    blue, white, purple, black = corners
    assert blue[2] > 150 > blue[0]
    assert white.min() > 200
    assert purple[2] > purple[1]
    assert black.max() < 80


def test_strong_guidance_in_the_first_steps() -> None:
    plan = str(Runtime.load(graph="strong_guidance.yaml").plan(prompt=PROMPT))
    assert "by_step.Interval" in plan
    weak = made("strong_guidance", prompt=PROMPT, guidance_scale=1.0)
    assert (made("strong_guidance", prompt=PROMPT) != weak).any()


def test_two_prompts_joined_by_a_mask() -> None:
    prompts = {"prompt": PROMPT, "prompt_2": "a green square on a white background"}
    both = made("two_sides", **prompts).astype(float)
    assert both[:, :8, 2].mean() > both[:, :8, 0].mean() + 60
    assert both[:, -8:].min() > 180


def test_editors_find_nothing_wrong() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLANG_GRAPH_PATH", str(EXAMPLES))
        validator = Draft7Validator(graph_schema())
    for path in GRAPHS:
        wrong = [e.message for e in validator.iter_errors(yaml.safe_load(path.read_text("utf-8")))]
        assert not wrong, path.name


def test_another_scheduler_equals_diffusers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = sdxl.checkpoint(tmp_path / "model")
    words = ["--model-path", str(model), "--prompt", SHORT, "--height", "32", "--width", "48"]
    steps = ["--num-inference-steps", "3"]
    assert main(["graphs", "verify", "other_scheduler.yaml", *words, *steps]) == 0
    assert "equal" in capsys.readouterr().out
    runtime = Runtime.load(str(model), graph="other_scheduler.yaml")
    assert runtime.engine.facts["scheduler"].class_name == "DPMSolverMultistepScheduler"


def test_a_scheduler_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["components.scheduler.class=UniPCMultistepSheduler", "--num-inference-steps", "1"]
    assert main(["generate", "--prompt", PROMPT, f"--output-path={tmp_path}", *words]) == 2
    assert "did you mean `UniPCMultistepScheduler`?" in capsys.readouterr().err
