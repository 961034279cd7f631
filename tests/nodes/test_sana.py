"""Sana beyond its row: learned variance, other schedulers and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from nodes.vae import resize_and_crop
from runtime import Runtime
from runtime.errors import UserError
from tests.support.tiny import sana
from tests.support.tiny.rows import vanilla

REQUEST: dict[str, Any] = dict(
    prompt="a red circle", height=64, width=96, num_inference_steps=3, guidance_scale=3.0, seed=7,
    use_resolution_binning=False, max_sequence_length=20,
)  # fmt: skip


def test_learned_variance_and_a_scaled_timestep_equal_the_reference(tmp_path: Path) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    changes = {"out_channels": 8, "timestep_scale": 0.5}
    folder = sana.checkpoint(tmp_path / "model", scheduler=scheduler, **changes)
    ours = Runtime.load(folder).generate(**REQUEST).outputs["image"].pixels.numpy()
    theirs = vanilla(folder, REQUEST, [])[0]
    assert theirs.std() > 5
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    runtime = Runtime.load(sana.checkpoint(tmp_path / "model", sample_size=8))
    with pytest.raises(UserError, match=r"`request.height` expects a multiple of 32 px"):
        runtime.generate(**{**REQUEST, "height": 50})
    with pytest.raises(UserError, match="no sizes are known for a model of 256 px"):
        runtime.generate(**{**REQUEST, "use_resolution_binning": True})


def test_a_picture_that_is_cut_is_never_a_pixel_short() -> None:
    assert int(992 * (501 / 992)) == 500, "where floats fall short"
    assert resize_and_crop(torch.zeros(1, 3, 992, 256), 501, 100).shape == (1, 3, 501, 100)
