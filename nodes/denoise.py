"""The denoising loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.contract.calls import Asking
from runtime.contract.denoising import Denoiser, DenoiseState, Schedule, Step, StepDone
from runtime.contract.values import Latents, Rng


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Follow a schedule from noise to latents, one prediction and one solver step at a time.

    rng      for solvers that draw; comes out as they left it
    resume   where an earlier run stopped: `latents` and `rng` are then those of the state
    latents  as the input, denoised
    """

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
        """Yield the calls of each step, then StepDone with a state that nothing changes."""
        state = resume or DenoiseState(0, latents.parts, {}, rng, {})
        once: dict[Any, Any] = {}
        while state.index < schedule.count:
            state = yield from advance(state, denoiser, schedule, once)
            yield StepDone(state, schedule.count)
        last: Any = state.rng  # none only where none came in, and then no edge leaves this port
        return self.Out(Latents(state.parts), last)


def advance(
    state: DenoiseState, denoiser: Denoiser, schedule: Schedule, once: dict[Any, Any]
) -> Asking[DenoiseState]:
    """One step. All that is new is in the result: a step may be dropped half-way or repeated."""
    i, solver, memory = state.index, schedule.solver, cloned(state.memory)
    step = Step(i, schedule.count, schedule.timesteps[i], schedule.sigmas[i], memory, once)
    seen = {k: solver.input(x, i) for k, x in state.parts.items()}
    prediction = yield from denoiser.predict(seen, step)
    parts, solved, rng = {}, {}, state.rng
    for k, x in state.parts.items():
        parts[k], solved[k], rng = solver.step(state.solver.get(k, {}), prediction[k], x, i, rng)
    return DenoiseState(i + 1, parts, solved, rng, memory)


def cloned(memory: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with its own mappings at every depth; the values in them are shared, never written."""
    return {k: cloned(v) if isinstance(v, Mapping) else v for k, v in memory.items()}
