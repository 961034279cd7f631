"""What a request says without effect is told: words that no encoder reads, options that are off.

Sources and kinds: `cases/nodes.md`.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli.main import main
from runtime import Runtime
from runtime.errors import UserError
from runtime.events import Noted, Planned
from runtime.provenance.read_back import provenance
from tests.families.test_families import ROWS, STEPS
from tests.support.tiny.rows import LONG, Row, given

SMALL = {"height": 64, "width": 64, "num_inference_steps": 1}
# No text encoder of these cuts a prompt, or not one of 480 words.
READ_WHOLE = (
    *("wan2_1", "wan2_2", "demo", "fastwan", "flux2_klein", "glm", "z_image"),
    "qwen_image_edit",
)
OFF = {"guidance_scale": 0, "audio_guidance_scale": 0, "true_cfg_scale": 1}


def notes(runtime: Runtime, **request: Any) -> list[str]:
    """What is noted before the first node runs."""
    found = []
    for event in runtime.start(**request):
        if isinstance(event, Noted):
            found.append(event.text)
        if isinstance(event, Planned):
            break
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Row], Path]]:
    made: dict[str, Path] = {}

    def of(row: Row) -> Path:
        if row.name not in made:
            made[row.name] = row.checkpoint(tmp_path_factory.mktemp("models") / row.name)
        return made[row.name]

    yield of
    for folder in made.values():
        if "demo" not in folder.parts:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("row", [r for r in ROWS if r.graph != "diffusers"], ids=lambda r: r.name)
def test_each_family_tells_the_words_that_are_not_read(
    row: Row, folders: Callable[[Row], Path]
) -> None:
    runtime = Runtime.load(folders(row), graph=row.graph if row.named else None)
    request = {**STEPS, **row.common, **row.cases[0], **given(runtime, row.scenes())}
    assert not notes(runtime, **{**request, "prompt": "a red circle"})
    cut = [
        n for n in notes(runtime, **{**request, "prompt": LONG}) if "`request.prompt` is cut" in n
    ]
    assert bool(cut) is not row.graph.startswith(READ_WHOLE), cut
    for note in cut:
        assert "does not read" in note
        assert "background and a red circle" in note


@pytest.mark.parametrize("row", [r for r in ROWS if r.graph != "diffusers"], ids=lambda r: r.name)
def test_each_family_tells_that_a_negative_prompt_has_no_effect(
    row: Row, folders: Callable[[Row], Path]
) -> None:
    runtime = Runtime.load(folders(row), graph=row.graph if row.named else None)
    fields = runtime.fields
    if "negative_prompt" not in fields:
        pytest.skip("takes no negative prompt")
    off = {n: v for n, v in OFF.items() if n in fields}
    request = {**STEPS, **row.common, **row.cases[0], **given(runtime, row.scenes())} | off
    said = notes(runtime, **{**request, "negative_prompt": "red"})
    assert any("`request.negative_prompt` has no effect" in n and "guidance" in n for n in said)
    without = {n: v for n, v in request.items() if n != "negative_prompt"}
    assert not any(n.startswith("`request.negative_prompt`") for n in notes(runtime, **without))


def at(family: str) -> Row:
    return next(row for row in ROWS if row.name == family)


@pytest.mark.parametrize(
    ("family", "request_", "field", "reason"),
    [
        ("flux1", {"true_cfg_scale": 4.0}, "true_cfg_scale", "negative prompt"),
        ("flux1_schnell", {"guidance_scale": 7.0}, "guidance_scale", "takes no guidance"),
        ("z_image_turbo", {"cfg_truncation": 0.5}, "cfg_truncation", "guidance is off"),
        ("z_image_turbo", {"cfg_normalization": 1.0}, "cfg_normalization", "guidance is off"),
        ("sdxl", {"guidance_scale": 1.0, "guidance_rescale": 0.7}, "guidance_rescale", "is off"),
        ("sd3", {"skip_layer_guidance_scale": 5.0}, "skip_layer_guidance_scale", "(SLG) is off"),
        ("cogvideox", {"guidance_scale": 1.0, "use_dynamic_cfg": True}, "use_dynamic_cfg", "off"),
        ("qwen_image", {"guidance_scale": 3, "true_cfg_scale": 2}, "guidance_scale", "its place"),
        ("ltx2", {"image_crf": 10}, "image_crf", "image_path"),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_told_with_its_reason(
    family: str,
    request_: dict[str, Any],
    field: str,
    reason: str,
    folders: Callable[[Row], Path],
) -> None:
    row = at(family)
    request = {**STEPS, "prompt": "a red circle", "height": 64, "width": 64}
    found = notes(Runtime.load(folders(row)), **{**request, **request_})
    assert len(found) == 1, found
    for note in found:
        assert note.startswith(f"`request.{field}` has no effect: ")
        assert reason in note


def test_an_option_that_decides_is_no_option_without_effect() -> None:
    demo = Runtime.load()
    assert not notes(demo, prompt="a red circle", guidance_scale=1.0, **SMALL)
    assert not notes(demo, prompt="a red circle", negative_prompt="red", **SMALL)


def test_a_prompt_is_cut_also_where_its_encoding_is_recalled() -> None:
    demo = Runtime.load()
    request = {"prompt": "red circle " * 400, **SMALL}
    first, second = demo.generate(**request), demo.generate(**request)
    assert len(first.notes) == 1
    assert second.notes == first.notes
    assert "`text_encoder` does not read" in first.notes[0]
    assert "(289 of 801 tokens)" in first.notes[0]


def test_a_negative_prompt_is_cut_too_and_named() -> None:
    request = {"prompt": "a red circle", "negative_prompt": "blue " * 600, **SMALL}
    (note,) = notes(Runtime.load(), **request)
    assert note.startswith("`request.negative_prompt` is cut: `text_encoder` does not read")


def test_a_shorter_limit_of_ones_own_cuts_what_lies_beyond() -> None:
    request = {"prompt": "a red circle on a blue background", "max_sequence_length": 4, **SMALL}
    (note,) = notes(Runtime.load(), **request)
    assert 'does not read "on a blue background"' in note


def test_the_command_line_and_the_file_tell_what_had_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--guidance-scale=1", "--negative-prompt=red", "--num-inference-steps=1"]
    size = ["--height=64", "--width=64", f"--output-path={tmp_path}"]
    assert main(["generate", "--prompt=a red circle", *words, *size]) == 0
    told = capsys.readouterr()
    assert "has no effect: classifier-free guidance is off at a scale of 1 or less" in told.err
    path = Path(told.out.strip())
    (note,) = provenance(path)["notes"]
    assert note.startswith("`request.negative_prompt` has no effect")
    assert main(["inspect", str(path)]) == 0
    assert "notes" in capsys.readouterr().out
    assert main(["generate", "--replay", str(path), f"--output-path={tmp_path / 'again'}"]) == 0


def test_a_dry_run_tells_what_will_have_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--guidance-scale=1", "--negative-prompt=red", "--dry-run"]
    assert main(["generate", "--prompt=a red circle", *words]) == 0
    assert "note: `request.negative_prompt` has no effect" in capsys.readouterr().out


def test_a_distilled_model_says_why_it_takes_no_guidance(folders: Callable[[Row], Path]) -> None:
    with pytest.raises(UserError, match=r"at most 1, got 4\.5") as problem:
        Runtime.load(folders(at("flux2_klein"))).validate(prompt="x", guidance_scale=4.5)
    assert "distilled" in problem.value.help


def test_what_a_vanilla_pipeline_warns_of_is_noted(folders: Callable[[Row], Path]) -> None:
    folder = folders(at("flux1"))
    runtime = Runtime.load(folder, {"model.backend": "diffusers"})
    result = runtime.generate(
        prompt=LONG, height=32, width=32, num_inference_steps=1, max_sequence_length=64
    )
    assert any(n.startswith("diffusers: ") and "truncated" in n for n in result.notes)
    assert Image.fromarray(result.outputs["image"].pixels.numpy()).size == (32, 32)
