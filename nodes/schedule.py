"""Timesteps and sigmas of one run, made by the checkpoint's own scheduler, always on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nodes import solvers
from nodes.contracts import VAE, Scheduler
from nodes.latents import image_size, temporal_scale
from runtime.contract.declare import Component
from runtime.contract.denoising import Schedule
from runtime.errors import UserError

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
    """Space sigmas evenly, shifted the further the more tokens the picture or clip has.

    patch_size     latent pixels per token side
    single         sigmas are spaced in float32, whose last bit can differ from float64's rounded
    steps          number of steps
    height, width  px
    num_frames     frames of a clip; a picture is one

    Source: Esser et al., arXiv:2403.03206, section 5.3.2, as in diffusers 0.42,
    pipelines/flux/pipeline_flux.py.
    """

    scheduler: Component[Scheduler]
    vae: Component[VAE]
    patch_size: int = 2
    single: bool = False

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, height: int, width: int, num_frames: int = 1) -> Out:
        """Set the timesteps on a scheduler of our own; the component stays as it is."""
        rows, columns = image_size(self.vae.config, self.patch_size, height, width)
        tokens = (rows // self.patch_size) * (columns // self.patch_size)
        if num_frames > 1:
            tokens *= (num_frames - 1) // temporal_scale(self.vae.config) + 1
        mu = shift_by_tokens(tokens, self.scheduler.config)
        return self.Out(evenly_spaced(self.scheduler, steps, mu, single=self.single))


def evenly_spaced(scheduler: Scheduler, steps: int, mu: float, *, single: bool = False) -> Schedule:
    """The schedule of sigmas from 1 to 1 / steps, shifted by `mu`. single: spaced in float32."""
    made = fresh(scheduler)
    if getattr(scheduler.config, "use_flow_sigmas", False):
        made.set_timesteps(steps, mu=mu)  # such a scheduler spaces its sigmas itself
        return schedule_of(made)
    even = np.linspace(1.0, 1 / steps, steps)
    if single:
        even = torch.linspace(1.0, 1 / steps, steps).double().numpy()
    made.set_timesteps(sigmas=even, mu=mu)
    return schedule_of(made)


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
    if hasattr(scheduler, "set_begin_index"):  # older ones find their place by the timestep
        scheduler.set_begin_index(first)
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True  # the solver scales by copies: no warning is due
    solver = solvers.FromScheduler(scheduler, first)
    deviation = float(getattr(scheduler, "init_noise_sigma", 1.0))
    return Schedule(scheduler.timesteps[first:], sigmas_of(scheduler)[first:], solver, deviation)


def sigmas_of(scheduler: Scheduler) -> Tensor:
    """Deviation of the noise, of a signal of 1, at each timestep and the end; old ones have none.

    Source: Karras et al., arXiv:2206.00364, appendix C.3.4.
    """
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas
    kept = scheduler.alphas_cumprod[scheduler.timesteps.long()]
    return torch.cat([((1 - kept) / kept).sqrt(), torch.zeros(1)])
