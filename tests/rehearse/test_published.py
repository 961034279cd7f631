"""Published models from their configs alone: FLOPs and bytes that others have published too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime import Runtime
from runtime.rehearse.placement import Placement
from tests.support.published import published

TERA = 10**12


def planned(folder: Path, machine: str, **request: Any) -> Placement:
    """What a request in bfloat16 needs on a machine."""
    runtime = Runtime.load(folder, {"precision.dit": "bfloat16"})
    return runtime.placement(machine, prompt="a cat", **request)


def test_flux1_at_1024(tmp_path: Path) -> None:
    """74.385 TFLOP a step: 59.5 of products, as diffusers prints them, and 14.9 of attention."""
    folder = published("flux1_dev", tmp_path)
    placed = planned(folder, "h100", height=1024, width=1024, num_inference_steps=4)
    denoise = next(n.cost for n in placed.nodes if n.cost.name == "denoise")
    assert sum(denoise.flops.values()) / 4 / TERA == pytest.approx(74.385, abs=0.001)
    assert denoise.calls == 4
    assert denoise.computed == 1, "steps that are equal but for their numbers are computed once"
    weights = {p.name: p.nbytes for p in placed.components}
    assert weights["transformer"] == pytest.approx(23.8e9, rel=0.01)
    assert weights["text_encoder_2"] == pytest.approx(9.52e9, rel=0.01)
    assert placed.fits
    assert not planned(folder, "rtx-3060", num_inference_steps=4).fits


def test_wan_14b_at_480p(tmp_path: Path) -> None:
    """1678.4 TFLOP a pass: two passes a step with guidance, 81 frames of 480x832."""
    folder = published("wan2_1_t2v_14b", tmp_path)
    request = {"height": 480, "width": 832, "num_frames": 81, "num_inference_steps": 2}
    placed = planned(folder, "2xh100", **request)
    denoise = next(n.cost for n in placed.nodes if n.cost.name == "denoise")
    assert sum(denoise.flops.values()) / 2 / TERA == pytest.approx(2 * 1678.4, rel=0.0005)
    assert placed.fits
    assert placed.machine.names == ["cuda:0", "cuda:1"]
