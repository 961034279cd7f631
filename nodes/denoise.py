"""The denoising loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from nodes.finite import check_finite
from runtime.contract.calls import Asking
from runtime.contract.denoising import Denoiser, DenoiseState, Schedule, Step, StepDone
from runtime.contract.values import Latents, Rng


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Follow a schedule from noise to latents, one prediction and one solver step at a time.

    rng      for solvers that draw noise; the output is its state after the last step
    resume   the state at which an earlier run stopped; its latents and rng replace the inputs
    latents  the denoised latents, in the shapes and dtype of the input
    """

    sized: ClassVar[tuple[str, ...]] = ("latents",)

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(
        self,
        *,
        denoiser: Denoiser,
        latents: Latents,
        schedule: Schedule,
        rng: Rng | None = None,
        resume: DenoiseState | None = None,
    ) -> Asking[Out]:
        """Yield the calls of each step, then StepDone with the state after it."""
        state = resume or DenoiseState(0, latents.parts, {}, rng, {})
        once: dict[Any, Any] = {}
        ahead = components_ahead(denoiser, schedule)
        while state.index < schedule.count:
            state = yield from denoise_step(state, denoiser, schedule, once)
            yield StepDone(state, schedule.count, ahead[state.index])
        for name, x in state.parts.items():
            check_finite(x, f"`latents.{name}` after {state.index} steps")
        # Without an rng at the input there is none at the output, and no edge may leave the port.
        last: Any = state.rng
        return self.Out(Latents(state.parts), last)


def components_ahead(denoiser: Denoiser, schedule: Schedule) -> list[frozenset[str]]:
    """For each step what it asks, and what the next step that asks others does.

    So the components of a second expert can be fetched while the first one works. The last entry,
    for after the last step, is empty.
    """
    points = zip(schedule.timesteps, schedule.sigmas, strict=False)
    asked = [denoiser.touches(Step(i, schedule.count, t, s)) for i, (t, s) in enumerate(points)]
    ahead: list[frozenset[str]] = [frozenset()]
    others: frozenset[str] = frozenset()
    for here, later in reversed([*zip(asked, [*asked[1:], frozenset[str]()], strict=True)]):
        others = others if later <= here else later
        ahead.append(here | others)
    return ahead[::-1]


def denoise_step(
    state: DenoiseState, denoiser: Denoiser, schedule: Schedule, once: dict[Any, Any]
) -> Asking[DenoiseState]:
    """One step. It changes nothing of its arguments, so that a step can be abandoned or repeated.

    once  what the run has prepared one time, by denoiser; it is filled in place
    """
    i, solver, memory = state.index, schedule.solver, copy_memory(state.memory)
    step = Step(i, schedule.count, schedule.timesteps[i], schedule.sigmas[i], memory, once)
    inputs = {k: solver.input(x, i, state.solver.get(k, {})) for k, x in state.parts.items()}
    prediction = yield from denoiser.predict(inputs, step)
    parts, solver_states, rng = {}, {}, state.rng
    for k, x in state.parts.items():
        before = state.solver.get(k, {})
        parts[k], solver_states[k], rng = solver.step(before, prediction[k], x, i, rng)
    return DenoiseState(i + 1, parts, solver_states, rng, memory)


def copy_memory(memory: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested mappings at every depth. Their values are shared and never written to."""
    return {k: copy_memory(v) if isinstance(v, Mapping) else v for k, v in memory.items()}
