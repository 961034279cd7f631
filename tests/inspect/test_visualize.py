"""`python -m runtime.visualize`: by name, by file, by checkpoint; each stage; text and mermaid."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.visualize import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("nothing_loaded")


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def test_ports_types_and_components(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "demo").splitlines()
    assert (
        "  height                 int = 128 px (at least 64, at most 256, multiple of 32)" in lines
    )
    row = "  transformer      dit           WanTransformer3DModel        float32     11.5 MB  path "
    assert f"{row}demo/checkpoint/transformer" in lines
    assert "  denoise: denoise.Denoise" in lines
    assert "      in      denoiser: Denoiser                 <- guided.denoiser" in lines
    assert "      out     latents: Latents" in lines


def test_a_file_and_a_checkpoint_are_shown_like_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_name = shown(capsys, "demo")
    assert shown(capsys, "graphs/demo.yaml") == by_name
    assert shown(capsys, "demo/checkpoint") == by_name


def test_prune_drops_what_a_request_does_not_need(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "demo", "--stage", "prune", "guidance_scale=1")
    assert "  uncond: wan.WanDenoiser" not in text
    assert "  guided           bypassed: its denoiser is `cond.denoiser`" in text
    drawing = shown(capsys, "demo", "--stage", "prune", "--format", "mermaid", "guidance_scale=1")
    assert "uncond" not in drawing


def test_fold_shows_keys_and_what_is_equal(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "demo", "--stage", "fold", "prompt=x", "negative_prompt=x")
    assert "  negative         equal to `positive`" in text
    assert any(line.startswith("  positive: text.EncodeUMT5  [") for line in text.splitlines())


def test_plan_loads_nothing(capsys: pytest.CaptureFixture[str], loads_nothing: None) -> None:
    text = shown(capsys, "demo", "--stage", "plan", "--output", "file")
    assert text.startswith("plan of graph `demo` on cpu: 10 nodes run")
    assert "predicted peak: " in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["no_such"], "`no_such` is no graph, and no folder either\n    help: there are graphs: "),
        (["dmeo"], "help: did you mean `demo`?"),
        (["demo", "placement=gpu"], "expects an option of conf/placement, got `gpu`"),
        (["demo", "request.foo=1"], "takes no `foo`"),
        (["flux1", "foo=1"], "takes no `foo`"),
        (
            ["demo", "height=100"],
            "height expects a multiple of 32 px, got 100\n"
            "    help: the nearest that fits is 128",
        ),
        (["demo", "what"], "`what` is no setting\n    help: write key=value: request.height=64"),
        (
            ["tests/data/bad_graphs/cycle.yaml"],
            "the graph has a cycle: first -> second -> first (`first.sum` into `second.a`, "
            "`second.sum` into `first.b`).\n    help: cut one edge: `first.b` reads `second.sum`",
        ),
    ],
)  # fmt: skip
def test_mistakes(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err
