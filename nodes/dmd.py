"""Models distilled to a few fixed timesteps: predict the clip, add fresh noise, predict again.

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
    """Take the timesteps that a model was distilled to.

    timesteps  falling
    shift      of the flow on which the nearest sigma of each is looked up
    steps      their number, where a request says it; no other is possible
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, timesteps: tuple[int, ...], shift: float, steps: int | None = None) -> Out:
        """Look the sigmas up; the component says how long training's schedule is."""
        self.verify(timesteps=timesteps, steps=steps)
        chosen = torch.tensor(timesteps)
        sigmas = nearest_sigmas(chosen, self.scheduler.config.num_train_timesteps, shift)
        solver = Renoise(sigmas)
        return self.Out(Schedule(chosen, torch.cat([sigmas, torch.zeros(1)]), solver))

    def verify(self, *, timesteps: tuple[int, ...], steps: int | None) -> None:
        """Refuse timesteps that do not fall, or another number of them."""
        said = ", ".join(map(str, timesteps))
        if not timesteps or list(timesteps) != sorted(set(timesteps), reverse=True):
            raise UserError(
                f"`dmd_denoising_steps` expects falling timesteps, got {said or 'none'}",
                help="such as 1000, 757, 522", field="dmd_denoising_steps",
            )  # fmt: skip
        if steps is not None and steps != len(timesteps):
            raise UserError(
                f"`num_inference_steps` is {steps}, and this model takes {len(timesteps)}: {said}",
                help=f"leave it out, or give {len(timesteps)}; `dmd_denoising_steps` decides",
                field="num_inference_steps",
            )


@dataclass(frozen=True, eq=False)
class Renoise:
    """Take the clip that a velocity points to, and noise it anew for the next step. sigmas: n."""

    sigmas: Tensor

    def input(self, x: Tensor, index: int) -> Tensor:
        """x as it is."""
        return x

    def step(
        self, state: Mapping[str, Any], prediction: Tensor, x: Tensor, index: int, rng: Rng | None
    ) -> tuple[Tensor, Mapping[str, Any], Rng | None]:
        """One step, x b c t h w, in float32; all but the last draw, frames before channels."""
        clean = (x.float() - self.sigmas[index] * prediction.float()).to(prediction)
        if index + 1 == len(self.sigmas) or rng is None:
            return clean, state, rng
        drawn, rng = rng.normal(tuple(clean.transpose(1, 2).shape), clean.dtype)
        noise, sigma = drawn.transpose(1, 2).to(clean).float(), self.sigmas[index + 1]
        return ((1 - sigma) * clean.float() + sigma * noise).to(clean), state, rng


def nearest_sigmas(timesteps: Tensor, count: int, shift: float) -> Tensor:
    """The sigma of each timestep, n, in training's schedule of `count` shifted ones."""
    even = torch.arange(count, 0, -1, dtype=torch.float32) / count
    sigmas = shift * even / (1 + (shift - 1) * even)
    places = (sigmas * count - timesteps[:, None]).abs().argmin(dim=1)
    return sigmas[places]
