"""`--check-finite`: the node, the port, the step and the part that make NaN or infinity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.main import main
from runtime import NodeFailed, Runtime
from tests.support.tiny import flux, wan

GRAPHS = Path(__file__).parents[1] / "data/graphs"
CHECKED = {"checks.finite": True}
SMALL = dict(prompt="a cat", height=32, width=32, num_inference_steps=3)


@pytest.fixture(autouse=True)
def _graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(GRAPHS))


def failure(runtime: Runtime, **request: Any) -> str:
    with pytest.raises(NodeFailed) as caught:
        runtime.generate(**request)
    said = str(caught.value).split("\n")[0].partition(" failed: ")[2]
    return said.removeprefix("runtime.errors.")


def spoilt(folder: Path, save: Callable[[Path], Path], file: str, name: str) -> Path:
    """A checkpoint with one infinite weight."""
    from safetensors.torch import load_file, save_file

    path = save(folder) / file
    weights = load_file(path)
    weights[name].view(-1)[0] = torch.inf
    save_file(weights, path, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (2, "NotFinite: `latents.x` has 2 of 4 values not finite ((1, 4) float32) in step 2 of 3"),
        (0, "NotFinite: output `latents` has 4 of 4 values not finite ((1, 4) float32)"),
    ],
    ids=["step", "port"],
)
def test_a_step_and_a_port_are_named(at: int, said: str) -> None:
    runtime = Runtime.load(None, CHECKED, graph="toy_overflow")
    assert failure(runtime, outputs=["grown"], at=at) == said
    unchecked = Runtime.load(graph="toy_overflow").generate(outputs=["grown"], at=at)
    assert not unchecked.outputs["grown"].parts["x"].isfinite().all()


def test_finite_runs_pass() -> None:
    request = SMALL | {"height": 64, "width": 64}
    assert Runtime.load(None, CHECKED).generate(**request).outputs["video"]


def test_a_transformer_is_named_with_its_first_step(tmp_path: Path) -> None:
    file = "transformer/diffusion_pytorch_model.safetensors"
    folder = spoilt(tmp_path / "model", wan.checkpoint, file, "proj_out.weight")
    said = failure(Runtime.load(folder, CHECKED), **SMALL, num_frames=1, guidance_scale=1.0)
    assert said.startswith("NotFinite: `transformer.proj_out` made ")
    assert "; `latents.video` has " in said
    assert said.endswith(" in step 1 of 3")


def test_a_decoder_is_named_though_pixels_are_whole_numbers(tmp_path: Path) -> None:
    file = "vae/diffusion_pytorch_model.safetensors"
    folder = spoilt(tmp_path / "model", flux.checkpoint, file, "decoder.conv_out.weight")
    said = failure(Runtime.load(folder, CHECKED), **SMALL)
    assert said.startswith("NotFinite: `vae.decoder` made 1024 of 3072 values not finite")
    whole = Runtime.load(folder, {**CHECKED, "model.backend": "diffusers"})
    assert failure(whole, **SMALL).startswith("NotFinite: `vae.decoder` made 1024 of 3072")


def test_the_flag_and_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = "vae/diffusion_pytorch_model.safetensors"
    folder = spoilt(tmp_path / "model", flux.checkpoint, file, "decoder.conv_out.weight")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    command = ["generate", f"--model-path={folder}", f"--output-path={tmp_path}", *flags]
    assert main([*command, "--check-finite"]) == 1
    said = capsys.readouterr().err
    assert "error: node `decode` (vae.DecodeImage, graphs/flux1.yaml:" in said.replace("\n", " ")
    assert "    latents: Latents (1, 4, " in said
    assert "Traceback" not in said
    assert "help: --debug shows where it happened" in said
    assert main([*command, "--check-finite", "--debug"]) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "runtime.errors.NotFinite: `vae.decoder` made " in said
