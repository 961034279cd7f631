"""Timesteps and sigmas of one run, made by the checkpoint's own scheduler, always on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nodes.contracts import VAE, Scheduler
from nodes.latents import image_size, temporal_scale
from nodes.solvers import SchedulerSolver
from runtime.contract.declare import Component
from runtime.contract.denoising import Schedule
from runtime.errors import UserError

SHIFT_NAMES = ("flow_shift", "shift")  # UniPC and DPM-Solver, flow-matching Euler


@dataclass(frozen=True, kw_only=True)
class FromScheduler:
    """Space the timesteps as the scheduler's config says.

    steps     number of denoising steps from pure noise to the result
    shift     replaces the flow shift of the scheduler's config; larger values spend more steps on
              noisy timesteps
    strength  the fraction of the steps that is run, from 0 to 1; the noisiest steps are left out
              because the run starts from a picture or a clip
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, shift: float | None = None, strength: float = 1.0) -> Out:
        """Set the timesteps on a new scheduler, so that the component does not change."""
        changes = {} if shift is None else {shift_name(self.scheduler.config): shift}
        scheduler = new_scheduler(self.scheduler, **changes)
        scheduler.set_timesteps(steps)
        return self.Out(schedule_of(scheduler, steps_to_skip(steps, strength)))


@dataclass(frozen=True, kw_only=True)
class ShiftByTokens:
    """Space sigmas evenly, and shift them by the number of tokens of the picture or the clip.

    patch_size     latent pixels per side of a token
    single         the even sigmas are computed in float32, which can differ from float64 in the
                   last bit
    steps          number of denoising steps
    height, width  px
    num_frames     frames of the clip; 1 for a picture

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
        """Set the timesteps on a new scheduler, so that the component does not change."""
        rows, columns = image_size(self.vae.config, self.patch_size, height, width)
        tokens = (rows // self.patch_size) * (columns // self.patch_size)
        if num_frames > 1:
            tokens *= (num_frames - 1) // temporal_scale(self.vae.config) + 1
        mu = shift_by_tokens(tokens, self.scheduler.config)
        return self.Out(evenly_spaced(self.scheduler, steps, mu, single=self.single))


def evenly_spaced(component: Scheduler, steps: int, mu: float, *, single: bool = False) -> Schedule:
    """The schedule of even sigmas from 1 to 1 / steps, shifted by `mu`.

    single  the even sigmas are computed in float32
    """
    scheduler = new_scheduler(component)
    if getattr(component.config, "use_flow_sigmas", False):
        scheduler.set_timesteps(steps, mu=mu)  # such a scheduler spaces its sigmas itself
        return schedule_of(scheduler)
    even = np.linspace(1.0, 1 / steps, steps)
    if single:
        even = torch.linspace(1.0, 1 / steps, steps).double().numpy()
    scheduler.set_timesteps(sigmas=even, mu=mu)
    return schedule_of(scheduler)


def shift_by_tokens(tokens: int, config: Any) -> float:
    """The shift `mu` for a number of tokens.

    It lies on the line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift)
    of the scheduler's config.
    """
    base, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (most - base)
    return float(tokens * slope + (low - slope * base))


def shift_name(config: Any) -> str:
    """The config key of this scheduler's flow shift; a UserError where it has none to set."""
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


def new_scheduler(component: Scheduler, **changes: Any) -> Scheduler:
    """A new scheduler with the component's config; schedulers keep state, so no two runs share one.

    changes  config values that replace those of the component
    """
    scheduler: Scheduler = type(component).from_config(component.config, **changes)
    return scheduler


def steps_to_skip(steps: int, strength: float) -> int:
    """How many of the noisiest steps are left out at this strength; the last step always runs.

    Source: diffusers 0.42, `get_timesteps` of pipelines/wan/pipeline_wan_video2video.py, which
    fails where `strength` leaves no step.
    """
    return steps - max(1, min(int(steps * strength), steps))


def schedule_of(scheduler: Scheduler, skip: int = 0) -> Schedule:
    """The schedule of a scheduler whose timesteps are set. The scheduler must not change after it.

    skip  steps left out at the start
    """
    first = skip * getattr(scheduler, "order", 1)  # Heun's method has two timesteps per step
    if hasattr(scheduler, "set_begin_index"):  # older schedulers look their timestep up
        scheduler.set_begin_index(first)
    if hasattr(scheduler, "is_scale_input_called"):
        # The solver scales the input with copies, so the scheduler's own warning would be wrong.
        scheduler.is_scale_input_called = True
    solver = SchedulerSolver(scheduler, first)
    deviation = float(getattr(scheduler, "init_noise_sigma", 1.0))
    return Schedule(scheduler.timesteps[first:], sigmas_of(scheduler)[first:], solver, deviation)


def sigmas_of(scheduler: Scheduler) -> Tensor:
    """Standard deviation of the noise relative to the signal, n + 1, at each timestep and the end.

    Schedulers without `sigmas` state the signal's part of the variance, `alphas_cumprod`.

    Source: Karras et al., arXiv:2206.00364, appendix C.3.4.
    """
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas
    signal = scheduler.alphas_cumprod[scheduler.timesteps.long()]
    return torch.cat([((1 - signal) / signal).sqrt(), torch.zeros(1)])
