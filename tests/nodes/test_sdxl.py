"""Stable Diffusion XL beyond its rows: schedulers that models of others bring, and their VAEs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from runtime import Runtime
from runtime.errors import UserError
from tests.support.tiny import sdxl
from tests.support.tiny.rows import vanilla

REQUEST: dict[str, Any] = dict(
    prompt="a red circle", height=32, width=40, num_inference_steps=3, guidance_scale=3.0, seed=7
)  # fmt: skip
MODELS = [
    pytest.param("DDIMScheduler", {"clip_sample": False}, {}, id="no sigmas"),
    pytest.param("PNDMScheduler", {"skip_prk_steps": True}, {}, id="one timestep twice"),
    pytest.param("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, {}, id="karras"),
    pytest.param(
        "EDMDPMSolverMultistepScheduler",
        {"sigma_data": 0.5},
        {"latents_mean": [-1.6, 1.1, 2.0, 0.3], "latents_std": [8.4, 5.7, 6.3, 4.9]},
        id="latents normalised by channel",
    ),
]


@pytest.mark.parametrize(("scheduler", "settings", "vae"), MODELS)
def test_models_of_others_equal_the_reference(
    scheduler: str, settings: dict[str, Any], vae: dict[str, Any], tmp_path: Path
) -> None:
    made = getattr(diffusers, scheduler)(**settings)
    folder = sdxl.checkpoint(tmp_path / "model", scheduler=made, **vae)
    ours = Runtime.load(folder).generate(**REQUEST).outputs["image"].pixels.numpy()
    theirs = vanilla(folder, REQUEST, [])[0]
    assert theirs.std() > 5
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_size_is_two_numbers(tmp_path: Path) -> None:
    runtime = Runtime.load(sdxl.checkpoint(tmp_path / "model"))
    with pytest.raises(UserError, match=r"`request.original_size` expects two numbers, got 1"):
        runtime.generate(**REQUEST, original_size=(64,))
