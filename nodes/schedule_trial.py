"""Try a schedule on a tensor of a few numbers, before any network is loaded.

A scheduler's config can be one that no run survives: options that contradict each other, a number
of steps for which a formula divides by zero, a package that is not installed. Stepping through the
whole schedule with a made-up prediction finds all of these in some milliseconds, for every class.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from runtime.checkpoint.classes import config_defaults, find_class
from runtime.checkpoint.handle import Handle
from runtime.contract.denoising import Schedule
from runtime.contract.values import Rng
from runtime.errors import UserError

Build = Callable[[int, Mapping[str, Any]], Schedule]
STEPS = (1, 2, 3, 4, 8, 20, 50)  # tried to find out whether the number of steps is at fault


def require_runnable(component: Any, steps: int, build: Build) -> Schedule:
    """The schedule that `build` makes of `steps` and no changes; a UserError where it cannot run.

    build  makes a schedule of a number of steps and of config values that replace others
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            schedule = build(steps, {})
            problem = find_failure(schedule)
        except UserError:
            raise
        except Exception as raised:  # whatever a scheduler of a contradictory config raises
            problem = first_line(raised)
        if not problem:
            return schedule
        raise explain_failure(component, steps, problem, build)


def find_failure(schedule: Schedule) -> str:
    """Why a run along this schedule would fail; empty where it would not."""
    x = torch.linspace(-1.0, 1.2, 16).reshape(1, 4, 2, 2)
    rng: Rng | None = Rng.from_seed(0)
    state: Mapping[str, Any] = {}
    with torch.inference_mode():
        for index in range(schedule.count):
            prediction = 0.5 * schedule.solver.input(x, index, state).cos()
            x, state, rng = schedule.solver.step(state, prediction, x, index, rng)
            if not x.isfinite().all():
                return f"step {index + 1} of {schedule.count} gives NaN or infinity"
    return ""


def draws_noise(schedule: Schedule) -> bool:
    """Whether a step of this schedule takes numbers from the generator."""
    x, rng = torch.linspace(-1.0, 1.2, 16).reshape(1, 4, 2, 2), Rng.from_seed(0)
    state: Mapping[str, Any] = {}
    after: Rng | None = rng
    with torch.inference_mode():
        for index in range(schedule.count):
            x, state, after = schedule.solver.step(state, 0.5 * x.cos(), x, index, after)
    return after is not None and not torch.equal(after.state, rng.state)


def explain_failure(component: Any, steps: int, problem: str, build: Build) -> UserError:
    """The error that names what to change: the number of steps, one option, or the scheduler."""
    name = getattr(component, "class_name", None) or type(component).__name__
    path = f"components.{getattr(component, 'name', 'scheduler')}"
    more = next((n for n in STEPS if n > steps and is_runnable(build, n, {})), None)
    if more:
        return wrong_steps(name, steps, problem, f"give at least {more}")
    for option, value, default in changed_options(component):
        if any(is_runnable(build, n, {option: default}) for n in (steps, 20)):
            key = f"{path}.config.{option}"
            return UserError(
                f"`{key}={value_as_text(value)}`: {name} cannot run with it here: {problem}",
                help=f"leave it out, or write `{key}={value_as_text(default)}`",
                field=key,
            )
    fewer = next((n for n in reversed(STEPS) if n < steps and is_runnable(build, n, {})), None)
    if fewer:
        return wrong_steps(name, steps, problem, f"give {fewer}")
    return UserError(
        f"`{path}`: {name} cannot run here: {problem}",
        help=f"give the scheduler of the model's own checkpoint with `{path}.path`",
        field=path,
    )


def wrong_steps(name: str, steps: int, problem: str, help: str) -> UserError:
    """The error for a number of steps."""
    return UserError(
        f"`request.num_inference_steps` is {steps}, which {name} cannot make: {problem}",
        help=help,
        field="request.num_inference_steps",
    )


def is_runnable(build: Build, steps: int, changes: Mapping[str, Any]) -> bool:
    """Whether a schedule can be made and run."""
    try:
        return not find_failure(build(steps, changes))
    except Exception:  # as above
        return False


def changed_options(component: Any) -> Iterator[tuple[str, Any, Any]]:
    """Options of the config that differ from their defaults: name, value and default."""
    own = {k: v for k, v in dict(component.config).items() if not k.startswith("_")}
    cls = type(component)
    if isinstance(component, Handle):
        cls = find_class(component.name, "diffusers", component.class_name, component.config)
    for option, default in config_defaults(cls).items():
        if option in own and own[option] != default:
            yield option, own[option], default


def value_as_text(value: Any) -> str:
    """A config value as it is written on the command line and in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def first_line(problem: Exception) -> str:
    """The first line of what an exception says."""
    return next((line for line in str(problem).splitlines() if line.strip()), repr(problem))
