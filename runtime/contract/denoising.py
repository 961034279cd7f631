"""The denoising loop as values: schedule, solver, denoiser, and the state between two steps.

`once` holds what a run prepared one time; it is never saved. `memory` is state that a step leaves
for the next
(step caches, momentum); it is part of `DenoiseState`, so that interleaved, resumed and batched runs
remain correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from torch import Tensor

from runtime.contract.calls import Asking
from runtime.contract.rules import lazy
from runtime.contract.values import Rng

Parts = Mapping[str, Tensor]  # modality -> batch-first tensor


@dataclass(frozen=True)
class Step:
    """One point of a schedule, as a denoiser sees it.

    index   0 to count - 1
    t       0-d, CPU, dtype as the scheduler made it
    sigma   0-d float32, CPU
    memory  this denoiser's own slice of the run's state, by its place in the tree
    once    what this run has prepared, by leaf
    """

    index: int
    count: int
    t: Tensor
    sigma: Tensor
    memory: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    once: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def at(self, place: str) -> Step:
        """The same step for the denoiser at `place` below this one."""
        return replace(self, memory=self.memory.setdefault(place, {}))


@lazy
class Denoiser(Protocol):
    """A prediction with its conditioning bound; no weight is touched before `predict`."""

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for the forwards of one step and return the prediction, one tensor per modality."""
        ...

    def touches(self, step: Step) -> frozenset[str]:
        """Names of the components that `predict` will ask for; known before weights are."""
        ...


def component_names(*components: Any) -> frozenset[str]:
    """What `touches` returns for denoisers that ask for these components.

    A module itself, which is what a node has that is run alone (`answer`), has no name.
    """
    names = (getattr(component, "name", None) for component in components)
    return frozenset(name for name in names if isinstance(name, str))


class Solver(Protocol):
    """A sampling method as a pure function of its state."""

    def input(self, x: Tensor, index: int, state: Mapping[str, object]) -> Tensor:
        """The denoiser's input at step `index`, with the state that the step before returned.

        Most solvers return x itself.
        """
        ...

    def step(
        self,
        state: Mapping[str, object],
        prediction: Tensor,
        x: Tensor,
        index: int,
        rng: Rng | None,
    ) -> tuple[Tensor, Mapping[str, object], Rng | None]:
        """One step: the next x, the next state, the next rng."""
        ...


@dataclass(frozen=True)
class Schedule:
    """The points of one run, on the CPU.

    timesteps  n
    sigmas     n + 1
    deviation  of the noise that a run starts from
    """

    timesteps: Tensor
    sigmas: Tensor
    solver: Solver
    deviation: float = 1.0
    on_host: ClassVar[bool] = True

    @property
    def count(self) -> int:
        """Number of steps."""
        return len(self.timesteps)


@dataclass(frozen=True)
class DenoiseState:
    """All state between two steps; with the node's content key it is enough to resume.

    index   steps done
    parts   latents by modality
    solver  solver state by modality
    """

    index: int
    parts: Parts
    solver: Mapping[str, Mapping[str, object]]
    rng: Rng | None
    memory: Mapping[str, Any]


@dataclass(frozen=True)
class StepDone:
    """What the denoise node yields after each step; the executor may stop, save or resume here."""

    state: DenoiseState
    count: int
    touches: frozenset[str] = frozenset()  # components that the next steps will call
