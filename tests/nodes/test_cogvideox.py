"""CogVideoX: what it refuses, and a solver whose history is a value."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXDPMScheduler

from nodes.solvers import PreviousSampleSolver
from runtime import Runtime
from runtime.contract.values import Rng
from runtime.errors import UserError
from tests.support.tiny.cogvideox import checkpoint

SMALL: dict[str, Any] = {"prompt": "a cat", "height": 32, "width": 32, "num_frames": 1}


@pytest.mark.parametrize(
    ("model", "wrong", "said"),
    [
        (checkpoint, {"num_frames": 13}, "9 or 17"),
        (checkpoint, {"height": 40}, "32 or 48"),
        (checkpoint, {"max_sequence_length": 100}, "exactly 226 tokens"),
        (partial(checkpoint, rotary=True, joined=2), {"width": 2416}, "at most 2400 px"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Any, wrong: dict[str, int], said: str, tmp_path: Path
) -> None:
    runtime = Runtime.load(model(tmp_path / "model"))
    with pytest.raises(UserError, match=said) as caught:
        runtime.generate(**{**SMALL, **wrong}, num_inference_steps=1)
    assert caught.value.field.removeprefix("request.") in wrong


def test_a_solver_that_looks_back_steps_again_from_its_state() -> None:
    scheduler: Any = CogVideoXDPMScheduler(prediction_type="v_prediction")
    scheduler.set_timesteps(4)
    solver = PreviousSampleSolver(scheduler)
    x, fresh = Rng.from_seed(3).normal((1, 1, 4, 2, 2))
    after, state, rng = solver.step({}, 0.5 * x, x, 0, fresh)
    first, *_ = solver.step(state, 0.5 * after, after, 1, rng)
    again, *_ = solver.step(state, 0.5 * after, after, 1, rng)
    without, *_ = solver.step({}, 0.5 * after, after, 1, rng)
    assert torch.equal(first, again), "neither the state nor the scheduler is written"
    assert not torch.equal(first, without), "the step before counts"
