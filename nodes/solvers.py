"""Sampling methods as pure functions of their state."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nodes.contracts import Scheduler
from runtime.contract.values import Rng


@dataclass(frozen=True, eq=False)
class FromScheduler:
    """A diffusers scheduler, made pure: copy, restore the state, step, take the changes out again.

    template  timesteps and begin index are set; never stepped, so runs may share it
    first     the template's timestep that this run begins with

    The template's tensors are on the CPU and the latents may be elsewhere: single numbers mix with
    any device, and the schedulers move those that do not.
    """

    template: Scheduler
    first: int = 0

    def input(self, x: Tensor, index: int) -> Tensor:
        """x as the network wants it: scaled where the scheduler scales (Euler), else as it is."""
        if not hasattr(self.template, "scale_model_input"):
            return x
        scheduler: Any = copy.copy(self.template)
        scheduler._step_index = self.first + index
        timestep = self.template.timesteps[self.first + index]
        scaled: Tensor = scheduler.scale_model_input(x, timestep)
        return scaled

    def step(
        self, state: Mapping[str, Any], prediction: Tensor, x: Tensor, index: int, rng: Rng | None
    ) -> tuple[Tensor, Mapping[str, Any], Rng | None]:
        """One step of the scheduler. state: the attributes that differ from the template's."""
        scheduler = restored(self.template, state)
        timestep = self.template.timesteps[self.first + index]

        def step(**options: Any) -> Tensor:
            stepped: Tensor = scheduler.step(prediction, timestep, x, return_dict=False, **options)[
                0
            ]
            return stepped

        if rng is not None and draws(type(scheduler)):
            after, rng = rng.using(lambda generator: step(generator=generator))
        else:
            after = step()
        return after, changes(scheduler, self.template), rng


@dataclass(frozen=True, eq=False)
class WithPreviousSample:
    """A scheduler whose caller keeps what it looks back at: the last step's denoised sample.

    template  timesteps are set; its step changes nothing of it, so runs may share it

    Source: diffusers 0.42, pipelines/cogvideo/pipeline_cogvideox.py; the samplers without a look
    back are called as all others. Latents keep their dtype, between float32 steps as well.
    """

    template: Scheduler

    def input(self, x: Tensor, index: int) -> Tensor:
        """x as it is."""
        return x

    def step(
        self, state: Mapping[str, Any], prediction: Tensor, x: Tensor, index: int, rng: Rng | None
    ) -> tuple[Tensor, Mapping[str, Any], Rng | None]:
        """One step. state: `denoised`, what the step before this one predicted."""
        scheduler: Any = self.template
        times = scheduler.timesteps
        given: tuple[Any, ...] = (prediction, times[index], x)
        if "old_pred_original_sample" in inspect.signature(scheduler.step).parameters:
            back = times[index - 1] if index else None
            given = (prediction, state.get("denoised"), times[index], back, x)

        def step(**options: Any) -> tuple[Tensor, Tensor]:
            stepped: tuple[Tensor, Tensor] = scheduler.step(*given, return_dict=False, **options)
            return stepped

        if rng is None:
            after, denoised = step()
        else:
            (after, denoised), rng = rng.using(lambda generator: step(generator=generator))
        return after.to(x.dtype), {"denoised": denoised}, rng


def restored(template: Scheduler, state: Mapping[str, Any]) -> Scheduler:
    """A copy of the template in this state; lists are copied, for schedulers write into theirs."""
    scheduler = copy.copy(template)
    values = {**vars(template), **state}
    vars(scheduler).update({k: list(v) if isinstance(v, list) else v for k, v in values.items()})
    return scheduler


def changes(scheduler: Scheduler, template: Scheduler) -> dict[str, Any]:
    """Attributes that a step changed, by identity: comparing tensors would wait for the device."""
    old = vars(template)
    return {k: v for k, v in vars(scheduler).items() if not (k in old and same(v, old[k]))}


def same(new: Any, old: Any) -> bool:
    """Whether two attributes are one: the same object, or lists and numbers of the same things."""
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(same(a, b) for a, b in zip(new, old, strict=True))
    return new is old or (
        type(new) is type(old) and isinstance(new, int | float | str) and new == old
    )


def draws(scheduler: type) -> bool:
    """Whether the scheduler's step takes a generator."""
    return "generator" in inspect.signature(scheduler.step).parameters  # type: ignore[attr-defined]  # a Scheduler
