"""Timesteps and sigmas of one run, made by the checkpoint's own scheduler, always on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nodes import schedule_trial
from nodes.contracts import VAE, Scheduler
from nodes.latents import image_size, temporal_scale
from nodes.solvers import SchedulerSolver
from runtime.checkpoint.classes import find_class
from runtime.checkpoint.handle import Handle
from runtime.contract.declare import Component
from runtime.contract.denoising import Schedule
from runtime.errors import UserError

# What diffusers' pipelines of models that predict noise ask of a scheduler.
NOISE_SCHEDULER = ("scale_model_input", "init_noise_sigma", "order")
SHIFT_NAMES = ("flow_shift", "shift")  # UniPC and DPM-Solver, flow-matching Euler
TYPICAL_MU = 1.0  # of a picture of 3,300 tokens, by the published base_shift and max_shift


@dataclass(frozen=True, kw_only=True)
class FromScheduler:
    """Space the timesteps as the scheduler's config says.

    scale_input  whether the model's pipeline calls `scale_model_input`, as those of models that
                 predict noise do; without it a scheduler that scales the input is refused
    eta          what the pipeline passes to a `step` that takes `eta`; null leaves its default
    steps        number of denoising steps from pure noise to the result
    shift        replaces the flow shift of the scheduler's config; larger values spend more steps
                 on noisy timesteps
    strength     the fraction of the steps that is run, from 0 to 1; the noisiest steps are left out
                 because the run starts from a picture or a clip
    """

    scheduler: Component[Scheduler]
    scale_input: bool = False
    eta: float | None = None

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, shift: float | None = None, strength: float = 1.0) -> Out:
        """Set the timesteps on a new scheduler, so that the component does not change."""
        changes = {} if shift is None else {shift_name(self.scheduler.config): shift}
        skip = steps_to_skip(steps, strength)

        def schedule(scheduler: Scheduler) -> Schedule:
            check_scaling(scheduler, self.scale_input)
            if getattr(scheduler.config, "use_dynamic_shifting", False):
                raise NotImplementedError("it shifts by resolution, and this graph gives it none")
            solver = SchedulerSolver(scheduler, scale_input=self.scale_input, eta=self.eta)
            return schedule_of(scheduler, solver, skip)

        return self.Out(make_schedule(self.scheduler, steps, space, schedule, changes))

    def verify(self, *, steps: int, shift: float | None, strength: float) -> None:
        """Refuse a scheduler that cannot make these steps."""
        self.run(steps=steps, shift=shift, strength=strength)


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

    def verify(self, *, steps: int | None = None, **_: Any) -> None:
        """Refuse a scheduler that cannot make these steps; the size changes only the shift."""
        if steps is None:
            return
        schedule = evenly_spaced(self.scheduler, steps, TYPICAL_MU, single=self.single)
        if schedule_trial.draws_noise(schedule):
            name = getattr(self.scheduler, "class_name", type(self.scheduler).__name__)
            raise UserError(
                f"`components.scheduler`: {name} draws noise at each step, and the reference draws"
                " it for packed tokens, in another order than this graph would",
                help="give a scheduler that draws none: `components.scheduler.path`, or"
                " `components.scheduler.config.stochastic_sampling=false`",
                field="components.scheduler",
            )


def evenly_spaced(component: Scheduler, steps: int, mu: float, *, single: bool = False) -> Schedule:
    """The schedule of even sigmas from 1 to 1 / steps, shifted by `mu`.

    single  the even sigmas are computed in float32
    """

    def spaced(scheduler: Any, steps: int) -> None:
        if getattr(component.config, "use_flow_sigmas", False):
            scheduler.set_timesteps(steps, mu=mu)  # such a scheduler spaces its sigmas itself
            return
        even = np.linspace(1.0, 1 / steps, steps)
        if single:
            even = torch.linspace(1.0, 1 / steps, steps).double().numpy()
        scheduler.set_timesteps(sigmas=even, mu=mu)

    return make_schedule(component, steps, spaced)


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
            f"`request.flow_shift` cannot be set: the checkpoint's scheduler {why}",
            help="leave `request.flow_shift` out",
            field="request.flow_shift",
        )
    return name


def flow_schedule(scheduler: Scheduler) -> Schedule:
    """The schedule as diffusers' flow matching pipelines use it: they pass no option to `step`."""
    check_scaling(scheduler, False)
    return schedule_of(scheduler, SchedulerSolver(scheduler, scale_input=False))


def check_scaling(scheduler: Scheduler, scale_input: bool) -> None:
    """Refuse a scheduler made for another kind of model.

    scale_input  whether the model's pipeline calls `scale_model_input`
    """
    missing = [name for name in NOISE_SCHEDULER if not hasattr(scheduler, name)]
    if scale_input and missing:
        raise NotImplementedError(
            f"the model predicts noise, and a scheduler for it has {' and '.join(missing)};"
            " flow matching schedulers have not"
        )
    ones = torch.ones(1, 1, 1, 1)
    if not scale_input and not SchedulerSolver(scheduler).input(ones, 0, {}).equal(ones):
        raise NotImplementedError(
            "it scales the model's input, for models that predict noise; this model's pipeline"
            " scales nothing, and starts from noise of unit variance"
        )


def make_schedule(
    component: Scheduler,
    steps: int,
    space: Callable[[Any, int], None],
    schedule: Callable[[Scheduler], Schedule] = flow_schedule,
    changes: Mapping[str, Any] | None = None,
) -> Schedule:
    """The schedule of a component, or a UserError where its config cannot make these steps.

    component  a scheduler, or its handle before it is loaded
    space      sets this many timesteps on a scheduler
    schedule   of a scheduler whose timesteps are set: how the pipeline calls it
    changes    config values that replace those of the component
    """

    def build(steps: int, more: Mapping[str, Any]) -> Schedule:
        scheduler = new_scheduler(component, **{**(changes or {}), **more})
        space(scheduler, steps)
        return schedule(scheduler)

    return schedule_trial.require_runnable(component, steps, build)


def new_scheduler(component: Scheduler, **changes: Any) -> Scheduler:
    """A new scheduler with the component's config; schedulers keep state, so no two runs share one.

    component  a scheduler, or its handle before it is loaded
    changes    config values that replace those of the component
    """
    cls: Any = type(component)
    if isinstance(component, Handle):
        cls = find_class(component.name, "diffusers", component.class_name, component.config)
    scheduler: Scheduler = cls.from_config(dict(component.config), **changes)
    return scheduler


def space(scheduler: Any, steps: int) -> None:
    """Set the timesteps as the scheduler's config spaces them."""
    scheduler.set_timesteps(steps)


def steps_to_skip(steps: int, strength: float) -> int:
    """How many of the noisiest steps are left out at this strength; the last step always runs.

    Source: diffusers 0.42, `get_timesteps` of pipelines/wan/pipeline_wan_video2video.py, which
    fails where `strength` leaves no step.
    """
    return steps - max(1, min(int(steps * strength), steps))


def schedule_of(scheduler: Scheduler, solver: Any, skip: int = 0) -> Schedule:
    """The schedule of a scheduler whose timesteps are set. The scheduler must not change after it.

    skip  steps left out at the start
    """
    # Heun's method has two timesteps per step.
    first = min(skip * getattr(scheduler, "order", 1), len(scheduler.timesteps) - 1)
    if hasattr(scheduler, "set_begin_index"):  # older schedulers look their timestep up
        scheduler.set_begin_index(first)
    if hasattr(scheduler, "is_scale_input_called"):
        # The solver scales the input with copies, so the scheduler's own warning would be wrong.
        scheduler.is_scale_input_called = True
    if first:
        solver = replace(solver, first=first)
    deviation = float(getattr(scheduler, "init_noise_sigma", 1.0))
    return Schedule(scheduler.timesteps[first:], sigmas_of(scheduler)[first:], solver, deviation)


def sigmas_of(scheduler: Scheduler) -> Tensor:
    """Standard deviation of the noise relative to the signal, n + 1, at each timestep and the end.

    Schedulers without `sigmas` state the signal's part of the variance, `alphas_cumprod`, or the
    scales of both (IPNDM). Of others it is not known, and NaN.

    Source: Karras et al., arXiv:2206.00364, appendix C.3.4.
    """
    known: Any = scheduler
    count = len(known.timesteps) + 1
    sigmas = torch.full([count], torch.nan)
    if len(getattr(known, "sigmas", ())) >= count:
        sigmas = known.sigmas
    elif hasattr(known, "alphas_cumprod"):
        last = len(known.alphas_cumprod) - 1
        signal = known.alphas_cumprod[known.timesteps.long().clamp(0, last)]
        sigmas = torch.cat([((1 - signal) / signal).sqrt(), torch.zeros(1)])
    elif len(getattr(known, "alphas", ())) >= count and hasattr(known, "betas"):
        sigmas = known.betas / known.alphas
    return sigmas
