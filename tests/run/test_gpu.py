"""What only a GPU shows: `python -m pytest -m gpu` on a machine with CUDA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runtime import Runtime
from runtime.plan.items import Load
from runtime.run.residency import residency

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.gpu


def frames(**overrides: object) -> torch.Tensor:
    runtime = Runtime.load(ROOT / "demo/checkpoint", overrides)
    result = runtime.generate(prompt="a red circle on a blue background", outputs=["video"])
    video: torch.Tensor = result.outputs["video"].frames
    return video.cpu().int()


def test_float32_on_both_devices_gives_one_picture() -> None:
    here = frames(**{"placement.device": "cuda", "precision": "all_float32"})
    there = frames(**{"placement.device": "cpu"})
    assert (here - there).abs().max() <= 3


def test_the_graph_recommends_bfloat16_there() -> None:
    runtime = Runtime.load(ROOT / "demo/checkpoint", {"placement.device": "cuda"})
    plan = runtime.plan(prompt="x", outputs=["video"])
    dtypes = {i.component: i.dtype for i in plan.items if isinstance(i, Load) and i.nbytes}
    assert dtypes == {"text_encoder": "bfloat16", "transformer": "bfloat16", "vae": "float32"}


def test_weights_are_resident_on_the_device() -> None:
    frames(**{"placement.device": "cuda"})
    devices = {held.key.device for held in residency().resident() if held.key.device}
    assert any(device.startswith("cuda") for device in devices)
