"""Nodes small enough to see through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from runtime.asking import Asking
from runtime.denoising import DenoiseState, StepDone
from runtime.values import Latents, Rng

calls: list[str] = []  # what ran, in order: tests clear and read it


@dataclass(frozen=True, kw_only=True)
class Add:
    """Add two numbers, and a constant."""

    plus: float = 0.0

    class Out(NamedTuple):
        sum: float

    @staticmethod
    def bypass(*, a: float, plus: float) -> str | None:
        """Nothing is added to b."""
        return "b" if a == 0 and plus == 0 else None

    def run(self, *, a: float, b: float = 0.0) -> Out:
        """a + b + plus."""
        calls.append(f"Add {a} {b}")
        return self.Out(a + b + self.plus)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Make a tensor of n numbers."""

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, n: int) -> Out:
        """Ones."""
        calls.append(f"Tensor {n}")
        return self.Out(Latents({"x": torch.ones(1, n)}))

    def estimate(self, *, n: int) -> int:
        """Four bytes each."""
        return 4 * n


@dataclass(frozen=True, kw_only=True)
class Total:
    """Sum a tensor."""

    class Out(NamedTuple):
        sum: float

    def run(self, *, latents: Latents) -> Out:
        """The sum as a number."""
        calls.append("Total")
        return self.Out(float(latents.parts["x"].sum()))


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Draw one number."""

    class Out(NamedTuple):
        number: float
        rng: Rng

    def run(self, *, rng: Rng) -> Out:
        """A normal number and the next state."""
        calls.append("Draw")
        number, after = rng.normal((1,))
        return self.Out(float(number), after)


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Take some steps, one at a time."""

    class Out(NamedTuple):
        steps: int

    def run(self, *, count: int) -> Asking[Out]:
        """Count to `count`."""
        for i in range(count):
            calls.append(f"Slow {i}")
            yield StepDone(DenoiseState(i + 1, {}, {}, None, {}), count)
        return self.Out(count)


@dataclass(frozen=True, kw_only=True)
class Fail:
    """Raise, in the middle of things."""

    class Out(NamedTuple):
        nothing: float

    def run(self, *, a: float, latents: Latents) -> Out:
        """Never returns."""
        raise ZeroDivisionError("a toy mistake")
