"""`--explain`: flags, paths and bare words; who reads them, which rules ask, what changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.flags import flag_table
from runtime.inspect.option_names import option_table
from runtime.visualize import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("nothing_loaded")


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(argv) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["--height", "request.height", "height", "--explain=--height"])
def test_a_request_field_by_each_of_its_names(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [name] if name.startswith("--explain") else ["--explain", name]
    lines = said(capsys, "wan2_1_t2v", *words)
    assert lines[:3] == [
        "request.height  (--height)",
        "  height of a frame",
        "  int, 480 px by default, at least 16, at most 4096, multiple of 16",
    ]
    assert lines[4].split()[:2] == ["noise.height", "latents.VideoNoise"]
    assert "  noise            predicts its bytes from it" in lines
    assert "  computed anew    noise, denoise, decode, stream, save, frames, upload" in lines
    assert "  as before        positive, negative, cond, uncond, guided, schedule" in lines


def test_a_rule_says_when_a_node_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "wan2_1_t2v", "--explain", "--guidance-scale")
    rule = "Classifier-free guidance is off at a scale of 1 or less."
    assert f"  guided           may be left out: {rule}" in lines


def test_a_value_shows_what_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "demo", "--explain", "height", "height=64")
    assert "default  |  request.height=64" in lines
    assert "  height  128 px  64 px" in lines
    (noise,) = (line for line in lines if line.startswith("  run noise "))
    assert noise.split() == ["run", "noise", "8.2", "KB", "4.1", "KB"]


@pytest.mark.parametrize("name", ["--vae-path", "vae_path", "components.vae.path"])
def test_a_component_by_each_of_its_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "demo", "--explain", name)
    assert lines[0] == "components.vae.path  (--vae-path)"
    assert lines[1] == "  vae: AutoencoderKLWan  float32  3.4 MB  demo/checkpoint/vae  role vae"
    readers = {line.split()[0] for line in lines[lines.index("bound by") + 1 :]}
    assert {"noise.vae", "decode.vae", "stream.vae"} <= readers


def test_policies_say_which_components_they_reach(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "flux1", "--explain", "--dit-precision")
    assert lines[0] == "precision.dit  (--dit-precision)"
    assert "  cond.transformer             flux.FluxDenoiser" in lines
    assert not any(line.startswith("  decode.vae") for line in lines)
    assert "  no node reads it" in said(capsys, "flux1", "--explain", "memo.max_mb")


def test_what_nothing_consumes_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "demo", "--explain", "--vae-weights-path")
    assert "  nothing in this version consumes `components.vae.weights_path`" in lines[-1]


def test_a_node_and_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "demo", "--explain", "nodes.decode.inputs.latents")
    assert "  inputs.latents: latents: Latents <- denoise.latents" in lines
    assert any(line.startswith("  written in graphs/wan2_1_t2v.yaml:") for line in lines)


def test_one_flag_may_stand_for_several_paths(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "wan2_1_t2v", "--explain", "--720p")
    assert "request.width  (--720p) = 1280" in lines
    assert "request.height  (--720p) = 720" in lines


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--explain", "--heigt"], "there is no option `--heigt`\n    help: did you mean `--heig"),
        (["--explain", ""], "there is no option ``"),
        (["--explain", "requst.height"], "help: did you mean `request.height`?"),
        (["--explain", "--strength"], "graph `demo` takes no `strength`"),
        (["--explain", "components.va.path"], "help: did you mean `vae`?"),
        (["--explain", "nodes.decod"], "help: did you mean `decode`?"),
        (["--explain", "nodes.decode.inputs.latent"], "did you mean `inputs.latents`?"),
        (["--explain", "height", "--format", "svg"], "--explain answers as text, not svg"),
    ],
)
def test_mistakes(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *argv]) == 2
    assert message in capsys.readouterr().err


def test_the_table_of_flags_is_that_of_the_command_line() -> None:
    flags = {name: ".".join(flag.path) for name, flag in flag_table().names.items()}
    assert {name: str(row["path"]) for name, row in option_table().items()} == flags
