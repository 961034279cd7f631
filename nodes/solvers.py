"""Sampling methods as pure functions of their state: what diffusers' schedulers do in `step`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from nodes.contracts import Scheduler
from runtime.contract.values import Rng

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SchedulerSolver:
    """A diffusers scheduler as a pure function.

    Each step copies the template, restores the state, calls `step` on the copy, and returns the
    attributes that changed as the next state.

    template     a scheduler whose timesteps and begin index are set; it never steps itself, so runs
                 can share it
    first        index of the template's timestep at which this run begins
    scale_input  whether the pipeline calls `scale_model_input` before each forward; the flow
                 matching pipelines of diffusers do not
    eta          what the pipeline passes to a `step` that takes `eta`; None leaves its default
    cast         whether latents are cast back to their dtype after each step

    The template's tensors are on the CPU and the latents may be on another device: tensors of one
    element mix with any device, and the schedulers move the others themselves.

    Noise is drawn from the run's generator, also where diffusers' pipeline passes none to `step`
    and the scheduler would draw from torch's global one: a seed must give one result.
    """

    template: Scheduler
    first: int = 0
    scale_input: bool = True
    eta: float | None = None
    cast: bool = False

    def input(self, x: Tensor, index: int, state: Mapping[str, Any]) -> Tensor:
        """The network's input: x, scaled where the pipeline and the scheduler scale it.

        The factor can depend on the state: schedulers of second order scale the input of their
        second evaluation by the sigma at which they make it.
        """
        if not self.scale_input or not hasattr(self.template, "scale_model_input"):
            return x
        scheduler: Any = restore(self.template, state)
        scheduler._step_index = self.first + index
        timestep = self.template.timesteps[self.first + index]
        scaled: Tensor = scheduler.scale_model_input(x, timestep)
        return scaled

    def step(
        self, state: Mapping[str, Any], prediction: Tensor, x: Tensor, index: int, rng: Rng | None
    ) -> tuple[Tensor, Mapping[str, Any], Rng | None]:
        """One step of the scheduler. state: the attributes that differ from the template's."""
        scheduler = restore(self.template, state)
        timestep = self.template.timesteps[self.first + index]
        takes = inspect.signature(type(scheduler).step).parameters
        options = {"eta": self.eta} if self.eta is not None and "eta" in takes else {}

        def step(**drawing: Any) -> Tensor:
            after: Tensor
            (after, *_) = scheduler.step(
                prediction, timestep, x, return_dict=False, **options, **drawing
            )
            return after.to(x.dtype) if self.cast else after

        if rng is None:
            after = step()
        elif "generator" in takes:
            after, rng = rng.using(lambda generator: step(generator=generator))
        else:
            after, rng = rng.using(lambda generator: with_global_generator(generator, step))
        return after, changed_attributes(scheduler, self.template), rng


@dataclass(frozen=True, eq=False)
class PreviousSampleSolver:
    """A scheduler of CogVideoX, whose caller passes the previous step's denoised sample to `step`.

    template  a scheduler whose timesteps are set; `step` changes nothing of it, so runs can share
              it

    Source: diffusers 0.42, pipelines/cogvideo/pipeline_cogvideox.py. Latents keep their dtype from
    step to step, although a step computes in float32.
    """

    template: Scheduler

    def input(self, x: Tensor, index: int, state: Mapping[str, Any]) -> Tensor:
        """The network's input is x itself."""
        return x

    def step(
        self, state: Mapping[str, Any], prediction: Tensor, x: Tensor, index: int, rng: Rng | None
    ) -> tuple[Tensor, Mapping[str, Any], Rng | None]:
        """One step. state: `denoised`, the denoised sample that the previous step predicted."""
        scheduler: Any = self.template
        times = scheduler.timesteps
        back = times[index - 1] if index else None
        arguments = (prediction, state.get("denoised"), times[index], back, x)

        def step(**options: Any) -> tuple[Tensor, Tensor]:
            stepped: tuple[Tensor, Tensor] = scheduler.step(
                *arguments, return_dict=False, **options
            )
            return stepped

        if rng is None:
            after, denoised = step()
        else:
            (after, denoised), rng = rng.using(lambda generator: step(generator=generator))
        return after.to(x.dtype), {"denoised": denoised}, rng


def restore(template: Scheduler, state: Mapping[str, Any]) -> Scheduler:
    """A copy of the template in this state. Lists are copied, because schedulers write to them."""
    scheduler = copy.copy(template)
    values = {**vars(template), **state}
    vars(scheduler).update({k: list(v) if isinstance(v, list) else v for k, v in values.items()})
    return scheduler


def changed_attributes(scheduler: Scheduler, template: Scheduler) -> dict[str, Any]:
    """The attributes that a step changed.

    Tensors are compared by identity: comparing their values would wait for the device.
    """
    old = vars(template)
    return {k: v for k, v in vars(scheduler).items() if not (k in old and is_same(v, old[k]))}


def is_same(new: Any, old: Any) -> bool:
    """Whether two attributes are the same object, equal plain values, or lists of such pairs."""
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(is_same(a, b) for a, b in zip(new, old, strict=True))
    return new is old or (
        type(new) is type(old) and isinstance(new, int | float | str) and new == old
    )


def with_global_generator(generator: torch.Generator, draw: Callable[[], T]) -> T:
    """Call `draw` while torch's global CPU generator has the state of `generator`, and advance it.

    For schedulers without a `generator` argument: a Brownian tree takes its seed from the global
    generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        drawn = draw()
        generator.set_state(torch.get_rng_state())
    return drawn
