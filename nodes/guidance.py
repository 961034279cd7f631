"""Guidance: denoisers in, denoiser out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor

from nodes.contracts import Scheduler
from runtime.contract.calls import Asking, gather
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Parts, Step


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """Push the prediction away from the one of the negative prompt; off at a scale of 1 or less.

    scale    1 is `cond` alone
    instead  stands in for `scale` where guidance is on: of a second expert
    rescale  part of the prediction that gets the deviation of `cond` back; 0 leaves it as it is

    Source: Ho and Salimans, arXiv:2207.12598, with w of Imagen (arXiv:2205.11487, equation 2);
    rescaling: arXiv:2305.08891, section 3.4.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """Guidance at 1 or less is its `cond`."""
        return "cond" if scale <= 1 else None

    def run(
        self,
        *,
        cond: Denoiser,
        uncond: Denoiser,
        scale: float,
        instead: float | None = None,
        rescale: float = 0.0,
    ) -> Out:
        """Bind the two predictions."""
        used = scale if instead is None else instead
        return self.Out(Guided(cond, uncond, partial(classifier_free, scale=used, rescale=rescale)))


@dataclass(frozen=True, kw_only=True)
class TrueClassifierFree:
    """Classifier-free guidance for a model with guidance distilled in: off without a negative.

    scale     1 is `cond` alone
    negative  the text that `uncond` was made from; none: guidance is off at any scale

    Source: diffusers 0.42, pipelines/flux/pipeline_flux.py, `true_cfg_scale`.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float, negative: str | None) -> str | None:
        """Without a negative, or at a scale of 1 or less, guidance is its `cond`."""
        return "cond" if scale <= 1 or negative is None else None

    def run(
        self, *, cond: Denoiser, uncond: Denoiser, scale: float, negative: str | None = None
    ) -> Out:
        """Bind the two predictions."""
        return self.Out(Guided(cond, uncond, partial(classifier_free, scale=scale)))


@dataclass(frozen=True, kw_only=True)
class RouteByTimestep:
    """Leave noisy timesteps to one expert and the rest to another.

    high      predicts from `boundary` on
    low       predicts below it
    boundary  part of the scheduler's training timesteps; none: `high` predicts always

    Source: Wan 2.2, github.com/Wan-Video/Wan2.2; diffusers 0.42, pipelines/wan/pipeline_wan.py.
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, boundary: float | None) -> str | None:
        """Without a boundary there is one expert."""
        return "high" if boundary is None else None

    def run(self, *, high: Denoiser, low: Denoiser, boundary: float | None = None) -> Out:
        """Bind the two experts."""
        if boundary is None:
            return self.Out(high)
        first = boundary * self.scheduler.config.num_train_timesteps
        return self.Out(RoutedDenoiser(high, low, first))


@dataclass(frozen=True, eq=False)
class RoutedDenoiser:
    """One of two denoisers, by the timestep. boundary: the least that `high` predicts at."""

    high: Denoiser
    low: Denoiser
    boundary: float

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for the prediction of the step's expert."""
        expert, place = self.expert(step)
        return (yield from expert.predict(x, step.at(place)))

    def touches(self, step: Step) -> frozenset[str]:
        """Those of the step's expert."""
        return self.expert(step)[0].touches(step)

    def expert(self, step: Step) -> tuple[Denoiser, str]:
        """The denoiser of a step, and its place below this one."""
        return (self.high, "high") if step.t >= self.boundary else (self.low, "low")


def always(step: Step) -> bool:
    """Every step is guided."""
    return True


@dataclass(frozen=True, eq=False)
class Guided:
    """Two predictions made one: two passes, in the order of the reference.

    combine  cond and uncond of a modality, b ..., and the step, to what is predicted
    on       whether a step is guided; where not, it is `cond` alone
    """

    cond: Denoiser
    uncond: Denoiser
    combine: Callable[[Tensor, Tensor, Step], Tensor]
    on: Callable[[Step], bool] = always

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for both predictions at once; the executor may batch or split them."""
        if not self.on(step):
            return (yield from self.cond.predict(x, step.at("cond")))
        cond, uncond = yield from gather(
            self.cond.predict(x, step.at("cond")), self.uncond.predict(x, step.at("uncond"))
        )
        return {k: self.combine(cond[k], uncond[k], step) for k in cond}

    def touches(self, step: Step) -> frozenset[str]:
        """Those of all that is predicted."""
        alone = self.cond.touches(step)
        return alone | self.uncond.touches(step) if self.on(step) else alone


def classifier_free(
    cond: Tensor, uncond: Tensor, step: Step, *, scale: float, rescale: float = 0.0
) -> Tensor:
    """uncond + scale (cond - uncond), which gets back some deviation of `cond` where `rescale`."""
    guided = uncond + scale * (cond - uncond)
    return rescaled(guided, cond, rescale) if rescale > 0 else guided


def rescaled(guided: Tensor, cond: Tensor, part: float) -> Tensor:
    """`part` of the guided prediction `b ...` at the deviation of `cond`, the rest as it is."""
    axes = list(range(1, cond.ndim))
    ratio = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return part * (guided * ratio) + (1 - part) * guided
