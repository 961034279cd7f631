"""Denoisers that change with the step: guidance with a start and a stop, prompts that change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from runtime.contract.calls import Asking
from runtime.contract.denoising import Denoiser, Parts, Step


@dataclass(frozen=True, kw_only=True)
class Switch:
    """Use one denoiser for the first steps and another for the rest.

    at             fraction of the steps after which `second` predicts, 0 to 1
    first, second  denoisers: of two prompts, say
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, at: float) -> str | None:
        """At 0 the node is `second`, at 1 it is `first`."""
        return "second" if at <= 0 else "first" if at >= 1 else None

    def run(self, *, first: Denoiser, second: Denoiser, at: float = 0.5) -> Out:
        """Combine both into one denoiser."""
        return self.Out(SwitchedDenoiser(inside=first, outside=second, start=0.0, stop=at))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Use one denoiser in an interval of the steps and another outside, as limited guidance does.

    start, stop  fractions of the steps, 0 to 1: `inside` predicts from `start` until before `stop`
    inside       the denoiser of the interval, such as a guided one
    outside      the denoiser of the other steps, such as the conditional one alone

    Source: Kynkäänniemi et al., arXiv:2404.07724; steps counted as in diffusers 0.42, guiders/.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, start: float, stop: float) -> str | None:
        """If the interval has all steps, the node is `inside`; if it has none, `outside`."""
        return "inside" if start <= 0 and stop >= 1 else "outside" if start >= stop else None

    def run(
        self, *, inside: Denoiser, outside: Denoiser, start: float = 0.0, stop: float = 1.0
    ) -> Out:
        """Combine both into one denoiser."""
        return self.Out(SwitchedDenoiser(inside, outside, start, stop))


@dataclass(frozen=True, eq=False)
class SwitchedDenoiser:
    """`inside` from fraction `start` of the steps until before `stop`, else `outside`."""

    inside: Denoiser
    outside: Denoiser
    start: float
    stop: float

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for the prediction of the denoiser of this step."""
        key = "inside" if self.is_inside(step) else "outside"
        return (yield from self.chosen(step).predict(x, step.at(key)))

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of the denoiser of this step."""
        return self.chosen(step).touches(step)

    def chosen(self, step: Step) -> Denoiser:
        """The denoiser of a step."""
        return self.inside if self.is_inside(step) else self.outside

    def is_inside(self, step: Step) -> bool:
        """Whether a step is in the interval."""
        return int(self.start * step.count) <= step.index < int(self.stop * step.count)
