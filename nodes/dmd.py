"""Models distilled to a few fixed timesteps: predict the clip, add new noise, predict again.

Source of all here: DMD2, arXiv:2405.14867, section 4.4; FastVideo, github.com/hao-ai-lab/FastVideo,
fastvideo/pipelines/stages/denoising.py, `DmdDenoisingStage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import Scheduler
from runtime.contract.declare import Component
from runtime.contract.denoising import Schedule
from runtime.contract.values import Rng
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FixedTimesteps:
    """Use the timesteps to which a model was distilled.

    timesteps  in descending order, each only once
    shift      flow shift of the training schedule, in which the nearest sigma of each is looked up
    steps      number of steps that the request asks for; it must be the number of timesteps
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, timesteps: tuple[int, ...], shift: float, steps: int | None = None) -> Out:
        """Look the sigmas up in the training schedule, whose length the config states."""
        self.verify(timesteps=timesteps, steps=steps)
        fixed = torch.tensor(timesteps)
        sigmas = nearest_sigmas(fixed, self.scheduler.config.num_train_timesteps, shift)
        solver = Renoise(sigmas)
        return self.Out(Schedule(fixed, torch.cat([sigmas, torch.zeros(1)]), solver))

    def verify(self, *, timesteps: tuple[int, ...], steps: int | None) -> None:
        """Refuse timesteps that are not in descending order, and a number of steps that differs."""
        listed = ", ".join(map(str, timesteps))
        if not timesteps or list(timesteps) != sorted(set(timesteps), reverse=True):
            raise UserError(
                f"`request.dmd_denoising_steps` expects timesteps in descending order, got"
                f" {listed or 'none'}",
                help="such as 1000, 757, 522", field="request.dmd_denoising_steps",
            )  # fmt: skip
        if steps is not None and steps != len(timesteps):
            raise UserError(
                f"`request.num_inference_steps` is {steps}, and this model takes {len(timesteps)}: "
                f"{listed}",
                help=f"leave it out, or give {len(timesteps)}",
                field="request.num_inference_steps",
            )


@dataclass(frozen=True, eq=False)
class Renoise:
    """Compute the clean clip from the predicted velocity, and add new noise for the next step.

    sigmas  n, float32, part of noise at each step
    """

    sigmas: Tensor

    def input(self, x: Tensor, index: int, state: Mapping[str, Any]) -> Tensor:
        """The network's input is x itself."""
        return x

    def step(
        self, state: Mapping[str, Any], prediction: Tensor, x: Tensor, index: int, rng: Rng | None
    ) -> tuple[Tensor, Mapping[str, Any], Rng | None]:
        """One step of x, b c t h w, in float32. All but the last draw noise, as b t c h w."""
        clean = (x.float() - self.sigmas[index] * prediction.float()).to(prediction)
        if index + 1 == len(self.sigmas) or rng is None:
            return clean, state, rng
        noise, rng = rng.normal(tuple(clean.transpose(1, 2).shape), clean.dtype)
        noise, sigma = noise.transpose(1, 2).to(clean).float(), self.sigmas[index + 1]
        return ((1 - sigma) * clean.float() + sigma * noise).to(clean), state, rng


def nearest_sigmas(timesteps: Tensor, count: int, shift: float) -> Tensor:
    """The sigma of each timestep, n, in a training schedule of `count` shifted sigmas."""
    even = torch.arange(count, 0, -1, dtype=torch.float32) / count
    sigmas = shift * even / (1 + (shift - 1) * even)
    indices = (sigmas * count - timesteps[:, None]).abs().argmin(dim=1)
    return sigmas[indices]
