"""Nodes small enough to see through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Generic, NamedTuple, TypeVar

import torch

from runtime.contract.calls import Asking, Call
from runtime.contract.denoising import DenoiseState, StepDone
from runtime.contract.outputs import Destination, File
from runtime.contract.values import Latents, Rng

Value = TypeVar("Value", float, Latents)
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
        try:
            raise KeyError("what began it")
        except KeyError as problem:
            raise ZeroDivisionError("a toy mistake") from problem


@dataclass(frozen=True, kw_only=True)
class Overflow:
    """Take steps of which one leaves infinities, or make them at the end."""

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, count: int, at: int) -> Asking[Out]:
        """Ones; infinities in the first two from step `at` on, and from the end where it is 0."""
        x = torch.ones(1, 4)
        for i in range(count):
            if i + 1 == at:
                x = torch.cat([x[:, :2] / 0, x[:, 2:]], dim=1)
            yield StepDone(DenoiseState(i + 1, {"x": x}, {}, None, {}), count)
        return self.Out(Latents({"x": x if at else x * float("nan")}))


@dataclass(frozen=True, kw_only=True)
class Write:
    """Write a number into a file."""

    class Out(NamedTuple):
        file: File

    def run(self, *, number: float, to: Destination) -> Out:
        """The file, in the folder of `to`."""
        path = to.folder / f"{to.name}.txt"
        path.write_text(str(number), "utf-8")
        return self.Out(File(path, "text/plain", path.stat().st_size))


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Tell the size of a file."""

    class Out(NamedTuple):
        size: int

    def run(self, *, file: File) -> Out:
        """Bytes."""
        return self.Out(file.size)


@dataclass(frozen=True, kw_only=True)
class Read:
    """Read a number from a file that the request names."""

    class Out(NamedTuple):
        number: float

    def run(self, *, path: str) -> Out:
        """The number in it."""
        return self.Out(float(Path(path).read_text("utf-8")))


@dataclass(frozen=True, kw_only=True)
class Misbehave:
    """Break a rule of nodes: yield a number, return one, or ask for what stops iterating."""

    class Out(NamedTuple):
        number: float

    def run(self, *, how: str) -> Asking[Out]:
        """Never returns an Out."""
        if how == "return":
            return 1.0  # type: ignore[return-value]  # which is the point
        yield 1.0 if how == "yield" else [Call(SimpleNamespace(name="net"), stopping, {})]
        raise AssertionError


def stopping(net: object) -> tuple[float]:
    """What a network without parameters does where its device is asked for."""
    return (next(iter(())),)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Add any number of numbers."""

    times: float = 1.0

    class Out(NamedTuple):
        sum: float

    def run(self, *, numbers: tuple[float, ...]) -> Out:
        """All of them, times a factor."""
        calls.append(f"Sum {numbers}")
        return self.Out(sum(numbers) * self.times)


@dataclass(frozen=True, kw_only=True)
class Pick:
    """Give back one of two values of the same type."""

    class Out(NamedTuple, Generic[Value]):
        value: Value

    def run(self, *, one: Value, two: Value, second: bool = False) -> Out[Value]:
        """The second if asked for."""
        return self.Out(two if second else one)
