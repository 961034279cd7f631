"""Timesteps and sigmas of one run, made by the checkpoint's own scheduler, always on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nodes import solvers
from nodes.contracts import VAE, Scheduler
from nodes.latents import image_size
from runtime.denoising import Schedule
from runtime.errors import UserError
from runtime.ports import Component

SHIFT_NAMES = ("flow_shift", "shift")  # UniPC and DPM-Solver, flow-matching Euler


@dataclass(frozen=True, kw_only=True)
class FromScheduler:
    """Take the schedule as the scheduler spaces it.

    steps     number of steps for the whole way from noise
    shift     replaces the checkpoint's flow shift: larger spends more steps on noisy timesteps
    strength  part of the steps that is taken, the last ones: where a run starts from a picture
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, shift: float | None = None, strength: float = 1.0) -> Out:
        """Set the timesteps on a scheduler of our own; the component stays as it is."""
        changes = {} if shift is None else {shift_name(self.scheduler.config): shift}
        scheduler = fresh(self.scheduler, **changes)
        scheduler.set_timesteps(steps)
        return self.Out(schedule_of(scheduler, skipped(steps, strength)))


@dataclass(frozen=True, kw_only=True)
class ShiftByTokens:
    """Space sigmas evenly, shifted the further the more tokens the picture has.

    patch_size     latent pixels per token side
    steps          number of steps
    height, width  px

    Source: Esser et al., arXiv:2403.03206, section 5.3.2, as in diffusers 0.42,
    pipelines/flux/pipeline_flux.py.
    """

    scheduler: Component[Scheduler]
    vae: Component[VAE]
    patch_size: int = 2

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, height: int, width: int) -> Out:
        """Set the timesteps on a scheduler of our own; the component stays as it is."""
        rows, columns = image_size(self.vae.config, self.patch_size, height, width)
        tokens = (rows // self.patch_size) * (columns // self.patch_size)
        scheduler = fresh(self.scheduler)
        mu = shift_by_tokens(tokens, self.scheduler.config)
        if getattr(self.scheduler.config, "use_flow_sigmas", False):
            scheduler.set_timesteps(steps, mu=mu)  # such a scheduler spaces its sigmas itself
        else:
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        return self.Out(schedule_of(scheduler))


def shift_by_tokens(tokens: int, config: Any) -> float:
    """mu of the shift, on the line through (base tokens, base_shift), (max tokens, max_shift)."""
    base, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (most - base)
    return float(tokens * slope + (low - slope * base))


def shift_name(config: Any) -> str:
    """How this scheduler calls its flow shift; a UserError where it has none to set."""
    dynamic = config.get("use_dynamic_shifting", False)
    name = next((name for name in SHIFT_NAMES if name in config), None)
    if name is None or dynamic:
        why = "shifts by resolution" if dynamic else "has no flow shift"
        raise UserError(
            f"`flow_shift` cannot be set: the checkpoint's scheduler {why}",
            help="leave `flow_shift` out",
            field="flow_shift",
        )
    return name


def fresh(scheduler: Scheduler, **changes: Any) -> Scheduler:
    """A scheduler of the same config that nobody else holds, for schedulers keep state."""
    made: Scheduler = type(scheduler).from_config(scheduler.config, **changes)
    return made


def skipped(steps: int, strength: float) -> int:
    """Steps left out at the noisy end; the last step always stays.

    Source: diffusers 0.42, `get_timesteps` of pipelines/wan/pipeline_wan_video2video.py, which
    fails where `strength` leaves no step.
    """
    return steps - max(1, min(int(steps * strength), steps))


def schedule_of(scheduler: Scheduler, skip: int = 0) -> Schedule:
    """The schedule of a scheduler whose timesteps are set: from here on the solver's template.

    skip  steps left out at the start
    """
    first = skip * getattr(scheduler, "order", 1)  # Heun's method has two timesteps a step
    scheduler.set_begin_index(first)  # steps count from here, without looking the timestep up
    solver = solvers.FromScheduler(scheduler, first)
    return Schedule(scheduler.timesteps[first:], scheduler.sigmas[first:], solver)
