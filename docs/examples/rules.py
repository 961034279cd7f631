"""A guidance rule of one's own, for own_guidance.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from runtime.contract.calls import Asking, gather
from runtime.contract.denoising import Denoiser, Parts, Step


@dataclass(frozen=True, kw_only=True)
class Halfway:
    """Classifier-free guidance whose scale falls to 1 over the steps.

    scale  guidance scale at the first step
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, cond: Denoiser, uncond: Denoiser, scale: float) -> Out:
        """Combine two denoisers into one."""
        return self.Out(Fading(cond, uncond, scale))


@dataclass(frozen=True, eq=False)
class Fading:
    """Two predictions, combined at a scale that depends on the step."""

    cond: Denoiser
    uncond: Denoiser
    scale: float

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for both predictions at once."""
        cond, uncond = yield from gather(
            self.cond.predict(x, step.at("cond")), self.uncond.predict(x, step.at("uncond"))
        )
        scale = self.scale + (1 - self.scale) * step.index / step.count
        return {name: uncond[name] + scale * (cond[name] - uncond[name]) for name in cond}

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of both predictions."""
        return self.cond.touches(step) | self.uncond.touches(step)
