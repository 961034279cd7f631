"""NaN and infinity never become a picture: an error names the node, and no file is written.

Half-precision VAEs that overflow decode again in float32, and it is noted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.main import main
from nodes.finite import check_finite, in_float32, is_finite
from runtime import NodeFailed, NotFinite, Runtime
from runtime.events import Noted
from tests.support.servers import serving
from tests.support.tiny import cogvideox, flux, ltx, ltx2, sdxl, wan

WEIGHTS = "diffusion_pytorch_model.safetensors"
REQUEST = dict(prompt="a cat", height=32, width=32, num_inference_steps=2, seed=1)
CLIP = REQUEST | {"num_frames": 5}
SOUND = {
    **ltx2.ROWS[0].common,
    **ltx2.ROWS[0].cases[0],
    "num_inference_steps": 2,
    "seed": 1,
    "outputs": ["audio"],
}
SPOILT = [
    ("transformer", "proj_out.bias", "denoise"),
    ("vae", "decoder.conv_out.bias", "decode"),
    ("text_encoder", "shared.weight", "denoise"),
]


def spoil(folder: Path, component: str, weight: str, value: float = torch.nan) -> Path:
    """Put a value into every weight of this name."""
    (path,) = (folder / component).glob("*.safetensors")
    weights = load_file(path)
    weights[weight].view(-1)[:] = value
    save_file(weights, path, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def wan_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan.checkpoint(tmp_path_factory.mktemp("wan") / "model")


@pytest.fixture
def spoilt(wan_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A Wan checkpoint with a broken weight."""

    def copy(component: str, weight: str, value: float = torch.nan) -> Path:
        return spoil(shutil.copytree(wan_model, tmp_path / "model"), component, weight, value)

    return copy


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["NaN", "infinity"])
@pytest.mark.parametrize(("component", "weight", "node"), SPOILT, ids=[s[0] for s in SPOILT])
def test_a_broken_weight_fails_the_run(
    component: str, weight: str, node: str, value: float, spoilt: Callable[..., Path]
) -> None:
    with pytest.raises(NodeFailed) as caught:
        Runtime.load(spoilt(component, weight, value)).generate(**CLIP)
    assert caught.value.node == node
    assert isinstance(caught.value.__cause__, NotFinite)


@pytest.mark.parametrize("suffix", ["", ".mp4", ".gif"])
def test_the_command_line_writes_no_file(
    suffix: str, spoilt: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = spoilt("vae", "decoder.conv_out.bias")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (CLIP if suffix else REQUEST).items()]
    flags += ["--num-frames=1"] if not suffix else []
    flags += [f"--output-path={tmp_path / 'out'}", f"--output-file-name=x{suffix}"]
    assert main(["generate", f"--model-path={folder}", *flags]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "NaN or infinity" in shown.err.replace("\n", " ")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_raw_frames_are_not_written_either(spoilt: Callable[..., Path], tmp_path: Path) -> None:
    folder = spoilt("vae", "decoder.conv_out.bias")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in CLIP.items()]
    flags += [f"--output-path={tmp_path / 'out'}", "--return-frames"]
    assert main(["generate", f"--model-path={folder}", *flags]) == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_the_server_answers_500_with_a_code_and_goes_on(
    spoilt: Callable[..., Path], tmp_path: Path
) -> None:
    folder = spoilt("vae", "decoder.conv_out.bias")
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", f"--model-path={folder}") as server:
        for seed in (1, 2):
            body = {"prompt": "a cat", "size": "32x32", "num_inference_steps": 1, "seed": seed}
            answer = server.post("/v1/images/generations", body)
            assert answer.status_code == 500, answer.text
            assert answer.json()["error"]["code"] == "not_finite"
            assert "NaN or infinity" in answer.json()["error"]["message"]
        assert server.get("/health").status_code == 200
    files = [path for path in (tmp_path / "server").rglob("*.png") if path.is_file()]
    assert not files


@pytest.mark.parametrize(
    ("component", "weight"), [s[:2] for s in SPOILT], ids=[s[0] for s in SPOILT]
)
def test_the_vanilla_pipeline_fails_too(
    component: str, weight: str, spoilt: Callable[..., Path]
) -> None:
    runtime = Runtime.load(spoilt(component, weight), {"model.backend": "diffusers"})
    with pytest.raises(NodeFailed, match="NaN or infinity"):
        runtime.generate(**CLIP)


def test_the_vanilla_pipeline_finds_infinity_that_clamping_hides(
    spoilt: Callable[..., Path],
) -> None:
    folder = spoilt("vae", "decoder.conv_out.bias", torch.inf)
    runtime = Runtime.load(folder, {"model.backend": "diffusers"})
    with pytest.raises(NodeFailed, match="the output of `vae`: NaN or infinity"):
        runtime.generate(**CLIP)


@pytest.mark.parametrize(
    ("save", "component", "weight", "small"),
    [
        (flux.checkpoint, "vae", "decoder.conv_out.bias", REQUEST),
        (sdxl.checkpoint, "unet", "conv_out.bias", REQUEST),
        (cogvideox.checkpoint, "vae", "decoder.conv_out.conv.bias", {}),
        (ltx.checkpoint, "vae", "decoder.conv_out.conv.bias", {}),
        (ltx2.ROWS[0].checkpoint, "vocoder", "conv_out.bias", SOUND),
    ],
    ids=["flux", "sdxl", "cogvideox", "ltx", "sound of ltx2"],
)
def test_other_decoders(
    save: Callable[[Path], Path], component: str, weight: str, small: Any, tmp_path: Path
) -> None:
    folder = save(tmp_path / "model")
    (path,) = (folder / component).glob("*.safetensors")
    assert weight in load_file(path), sorted(load_file(path))
    spoil(folder, component, weight)
    request = small or {**REQUEST, "num_frames": 9, "height": 64, "width": 64}
    with pytest.raises(NodeFailed, match="NaN or infinity"):
        Runtime.load(folder).generate(**request)


def overflowing(folder: Path) -> Path:
    """Give a VAE a decoder whose last layer takes numbers beyond float16, and makes pixels of them.

    The last normalisation is scaled up and the last convolution down; all weights are exact in
    float16.
    """
    (path,) = (folder / "vae").glob("*.safetensors")
    weights = load_file(path)
    for name, tensor in weights.items():
        if name.startswith(("decoder.norm_out.", "decoder.conv_norm_out.")):
            tensor.mul_(3e4)
        if name == "decoder.conv_out.weight":
            tensor.div_(3e4)
    weights = {name: tensor.half().float() for name, tensor in weights.items()}
    save_file(weights, path, {"format": "pt"})
    return folder


def notes_and_pixels(runtime: Runtime, **request: Any) -> tuple[list[str], Any]:
    run = runtime.start(**request)
    notes = [event.text for event in run if isinstance(event, Noted)]
    (value,) = run.result.outputs.values()
    return notes, value


def frames(value: Any) -> Any:
    """The pixels of a picture or a clip, in integers that can be subtracted."""
    return np.asarray(value.frames if hasattr(value, "frames") else value.pixels).astype(int)


# A pipeline of diffusers gives its latents to the VAE in the transformer's dtype, but for Wan's.
@pytest.mark.parametrize(
    ("save", "backend"),
    [(flux.checkpoint, "sglang"), (wan.checkpoint, "sglang"), (wan.checkpoint, "diffusers")],
    ids=["picture", "clip", "vanilla"],
)
def test_a_half_precision_vae_that_overflows_decodes_again_in_float32(
    save: Callable[[Path], Path], backend: str, tmp_path: Path
) -> None:
    folder = overflowing(save(tmp_path / "model"))
    request = CLIP if save is wan.checkpoint else REQUEST
    half = {"components.vae.dtype": "float16", "model.backend": backend}
    runtime = Runtime.load(folder, half)
    notes, value = notes_and_pixels(runtime, **request)
    assert any("`vae` overflows in half precision" in note for note in notes), notes
    _, expected = notes_and_pixels(Runtime.load(folder, {"model.backend": backend}), **request)
    found, wanted = frames(value), frames(expected)
    assert np.abs(found - wanted).max() <= 3
    again, _ = notes_and_pixels(runtime, **{**request, "seed": 2})  # its dtype is its own again
    assert again == notes


def test_a_clip_that_is_encoded_while_it_is_decoded_restarts_in_float32(
    wan_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = overflowing(shutil.copytree(wan_model, tmp_path / "model"))
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in CLIP.items()]
    flags += [f"--model-path={folder}", f"--output-path={tmp_path / 'out'}"]
    assert main(["generate", *flags, "components.vae.dtype=float16"]) == 0
    assert "overflows in half precision" in capsys.readouterr().err.replace("\n", " ")
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 1


def test_one_reduction_finds_each_kind_in_each_sample() -> None:
    x = torch.zeros(4, 3, 2)
    x[1, 0, 0], x[2, 1, 1], x[3, 2, 0] = torch.nan, torch.inf, -torch.inf
    assert is_finite(x).tolist() == [True, False, False, False]
    assert is_finite(x.half()).tolist() == is_finite(x.bfloat16()).tolist() == is_finite(x).tolist()
    check_finite(torch.full((1, 2), 65504.0).half(), "the largest of float16")
    with pytest.raises(NotFinite, match="latents"):
        check_finite(x, "latents")


def test_a_network_has_its_own_tensors_after_float32() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2).half(), torch.nn.LayerNorm(2))
    before = [p.data_ptr() for p in net.parameters()]
    with in_float32(net):
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert [p.data_ptr() for p in net.parameters()] == before
    assert [p.dtype for p in net.parameters()] == [torch.float16] * 2 + [torch.float32] * 2
