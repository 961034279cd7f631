"""Every family on a simulated accelerator: `--device sim:0` is nothing special."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime import Runtime
from runtime.run.residency import residency
from tests.families.test_families import NAMES, ROWS, STEPS, ours
from tests.support.simdevice import Sim
from tests.support.tiny.rows import Row

# Draws tokens from the device's own generator, as its pipeline in diffusers does.
OWN_GENERATOR = {"glm_image"}


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_family_equals_the_cpu(row: Row, sim: Sim, tmp_path: Path) -> None:
    folder = row.checkpoint(tmp_path / "model")
    request = {**STEPS, **row.common, **row.cases[0]}
    found = {}
    for device in ("cpu", "sim:0"):
        settings = {"placement.device": device, "precision": "all_float32"}
        runtime = Runtime.load(folder, settings, graph=row.graph if row.named else None)
        found[device] = ours(runtime, request, row.scenes())
        residency().clear()
    assert sim.peak["sim:0"] > 100_000, "it ran there"
    assert {way[:2] for way in sim.copies} <= {("cpu", "sim:0"), ("sim:0", "cpu")}
    if row.graph in OWN_GENERATOR:
        assert found["cpu"].shape == found["sim:0"].shape
        return
    difference = np.abs(found["cpu"].astype(int) - found["sim:0"].astype(int))
    assert difference.max() <= 1
