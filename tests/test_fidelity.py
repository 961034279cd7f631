"""`sglang generate` against vanilla diffusers: same checkpoint, prompt, seed, steps, guidance.

Float32 on a CPU.

The command writes PNGs (lossless); at most 1/255 may differ anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import flux, wan

from cli.main import main
from runtime.media import read_image

ROOT = Path(__file__).parent.parent
LONG = "a red circle on a blue background and " * 60  # beyond every tokenizer's limit


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "wan": wan.checkpoint(folder / "wan"),
        "flux": flux.checkpoint(folder / "flux"),
        "flux_schnell": flux.checkpoint(folder / "flux_schnell", guidance=False),
        "demo": ROOT / "demo/checkpoint",
    }


def ours(model: Path, folder: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> list[Path]:
    """Files that the command writes, in the order it names them."""
    command = ["generate", "--model-path", str(model), "--output-path", str(folder), *argv]
    assert main([*command, "--log-level", "error"]) == 0
    return [Path(line) for line in capsys.readouterr().out.splitlines()]


def vanilla(model: Path, **call: Any) -> NDArray[np.uint8]:
    """Pixels of the reference: f h w c, as its own post-processing rounds them to bytes."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    seed = call.pop("seed")
    out = pipeline(**call, generator=torch.Generator().manual_seed(seed), output_type="np")
    frames = out.frames[0] if hasattr(out, "frames") else out.images
    return np.asarray((frames * 255).round().astype(np.uint8))


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """The largest difference in steps of 1/255."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


CASES = [
    ("wan", 48, 112, dict(prompt="a red circle", negative_prompt="blue", guidance_scale=4.0)),
    ("wan", 80, 32, dict(prompt=LONG, negative_prompt="", guidance_scale=1.0)),
    ("flux", 48, 112, dict(prompt="a red circle", guidance_scale=3.5)),
    ("flux", 80, 32, dict(prompt=LONG, negative_prompt="blue", true_cfg_scale=2.5)),
    ("flux_schnell", 112, 48, dict(prompt="a green square", max_sequence_length=256)),
    ("demo", 96, 160, dict(prompt="a red circle on a blue background", guidance_scale=2.5)),
    ("demo", 192, 64, dict(prompt="a star", negative_prompt="red", guidance_scale=1.0)),
]


@pytest.mark.parametrize(
    ("name", "height", "width", "call"), CASES, ids=[f"{c[0]}-{c[1]}x{c[2]}" for c in CASES]
)
def test_pictures_equal_diffusers(
    name: str,
    height: int,
    width: int,
    call: dict[str, Any],
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = {**call, "height": height, "width": width, "num_inference_steps": 3, "seed": 7}
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in call.items()]
    frames = [] if name.startswith("flux") else ["--num-frames", "1"]
    (path,) = ours(checkpoints[name], tmp_path, capsys, *flags, *frames)
    reference = vanilla(checkpoints[name], **call, **({"num_frames": 1} if frames else {}))
    assert reference.max() > reference.min()
    assert difference(read_image(path)[None], reference) <= 1


@pytest.mark.parametrize("name", ["wan", "demo"])
def test_clips_equal_diffusers(
    name: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call: dict[str, Any] = dict(prompt="a green square moving right on a white background")
    call |= dict(
        height=64, width=96, num_frames=9, num_inference_steps=2, guidance_scale=3.0, seed=3
    )
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in call.items()]
    (path,) = ours(checkpoints[name], tmp_path, capsys, *flags, "--return-frames")
    frames = np.load(path)
    assert (frames.dtype, frames.shape) == (np.uint8, (9, 64, 96, 3))
    assert difference(frames, vanilla(checkpoints[name], **call)) <= 1


def test_several_samples_each_equal_their_own_seed(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = dict(prompt="a red circle", height=64, width=64, num_inference_steps=2, num_frames=1)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in call.items()]
    paths = ours(checkpoints["demo"], tmp_path, capsys, *flags, "--seed", "5", "--num-samples", "2")
    for seed, path in zip((5, 6), paths, strict=True):
        reference = vanilla(checkpoints["demo"], **call, guidance_scale=2.5, seed=seed)
        assert difference(read_image(path)[None], reference) <= 1
