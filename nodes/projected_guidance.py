"""Adaptive projected guidance: strong guidance without oversaturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from runtime.contract.calls import Asking, gather
from runtime.contract.denoising import Denoiser, Parts, Step


@dataclass(frozen=True, kw_only=True)
class AdaptiveProjected:
    """Guide along the part of the difference that is orthogonal to the conditional prediction.

    momentum        part of the differences of earlier steps that is added; negative values damp
    norm_threshold  largest norm of the difference; 0 leaves it as it is
    eta             part of the difference parallel to `cond` that is kept: 1 is plain guidance
    scale           guidance scale; at 1 the result is `cond` alone

    Source: Sadat et al., arXiv:2410.02416; diffusers 0.42, guiders/adaptive_projected_guidance.py.
    """

    momentum: float | None = None
    norm_threshold: float = 15.0
    eta: float = 0.0

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """At a scale of 1, `cond` replaces the node."""
        return "cond" if scale == 1 else None

    def run(self, *, cond: Denoiser, uncond: Denoiser, scale: float) -> Out:
        """Combine the two denoisers into one."""
        return self.Out(ProjectedDenoiser(cond, uncond, scale, self))


@dataclass(frozen=True, eq=False)
class ProjectedDenoiser:
    """Two predictions, combined by projection. rule: the parameters."""

    cond: Denoiser
    uncond: Denoiser
    scale: float
    rule: AdaptiveProjected

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for both predictions at once; the running average is part of the step's memory."""
        cond, uncond = yield from gather(
            self.cond.predict(x, step.at("cond")), self.uncond.predict(x, step.at("uncond"))
        )
        guided = {}
        for name in cond:
            difference = cond[name] - uncond[name]
            if self.rule.momentum is not None:
                difference = difference + self.rule.momentum * step.memory.get(name, 0)
                step.memory[name] = difference
            update = projected(difference, cond[name], self.rule.norm_threshold, self.rule.eta)
            guided[name] = uncond[name] + self.scale * update
        return guided

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of both predictions."""
        return self.cond.touches(step) | self.uncond.touches(step)


def projected(difference: Tensor, cond: Tensor, threshold: float, eta: float) -> Tensor:
    """A difference, limited in norm, without 1 - eta of its part parallel to `cond`; b ..."""
    axes = list(range(1, difference.ndim))
    if threshold > 0:
        norm = difference.norm(p=2, dim=axes, keepdim=True)
        difference = difference * torch.minimum(torch.ones_like(norm), threshold / norm)
    long, along = difference.double(), normalize(cond.double(), dim=axes)  # type: ignore[arg-type]  # several axes work
    parallel = (long * along).sum(dim=axes, keepdim=True) * along
    orthogonal = (long - parallel).to(difference.dtype)
    return orthogonal + eta * parallel.to(difference.dtype)
