"""Guidance: nodes that combine the predictions of several denoisers into one."""

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
    """Classifier-free guidance; it is off at a scale of 1 or less.

    scale    guidance scale; at 1 the result is `cond` alone
    instead  a scale that replaces `scale` where guidance is on, for the second expert of two
    rescale  part of the prediction that is rescaled to the standard deviation of `cond`, 0 to 1

    Source: Ho and Salimans, arXiv:2207.12598, with w of Imagen (arXiv:2205.11487, equation 2);
    rescaling: arXiv:2305.08891, section 3.4.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """Classifier-free guidance is off at a scale of 1 or less."""
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
        """Combine the two denoisers into one."""
        used = scale if instead is None else instead
        return self.Out(Guided(cond, uncond, partial(classifier_free, scale=used, rescale=rescale)))


@dataclass(frozen=True, kw_only=True)
class TrueClassifierFree:
    """Classifier-free guidance of a guidance-distilled model; off without a negative prompt.

    scale     guidance scale; at 1 the result is `cond` alone
    negative  the negative prompt of `uncond`; without one guidance is off at any scale

    Source: diffusers 0.42, pipelines/flux/pipeline_flux.py, `true_cfg_scale`.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float, negative: str | None) -> str | None:
        """Classifier-free guidance is on with a negative prompt and a scale above 1 only."""
        return "cond" if scale <= 1 or negative is None else None

    def run(
        self, *, cond: Denoiser, uncond: Denoiser, scale: float, negative: str | None = None
    ) -> Out:
        """Combine the two denoisers into one."""
        return self.Out(Guided(cond, uncond, partial(classifier_free, scale=scale)))


@dataclass(frozen=True, kw_only=True)
class RouteByTimestep:
    """Use one expert for the noisy timesteps and another for the rest.

    high      predicts at timesteps of `boundary` and above
    low       predicts at timesteps below `boundary`
    boundary  fraction of the scheduler's training timesteps; without one `high` always predicts

    Source: Wan 2.2, github.com/Wan-Video/Wan2.2; diffusers 0.42, pipelines/wan/pipeline_wan.py.
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, boundary: float | None) -> str | None:
        """Without a boundary one expert predicts at every timestep."""
        return "high" if boundary is None else None

    def run(self, *, high: Denoiser, low: Denoiser, boundary: float | None = None) -> Out:
        """Combine the two experts into one denoiser."""
        if boundary is None:
            return self.Out(high)
        first = boundary * self.scheduler.config.num_train_timesteps
        return self.Out(RoutedDenoiser(high, low, first))


@dataclass(frozen=True, eq=False)
class RoutedDenoiser:
    """One of two denoisers, chosen by the timestep.

    boundary  the lowest timestep at which `high` predicts
    """

    high: Denoiser
    low: Denoiser
    boundary: float

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for the prediction of the expert of this step."""
        expert, key = self.expert(step)
        return (yield from expert.predict(x, step.at(key)))

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of the expert of this step."""
        return self.expert(step)[0].touches(step)

    def expert(self, step: Step) -> tuple[Denoiser, str]:
        """The denoiser of a step, and the key of its memory."""
        return (self.high, "high") if step.t >= self.boundary else (self.low, "low")


def always(step: Step) -> bool:
    """Every step is guided."""
    return True


@dataclass(frozen=True, eq=False)
class Guided:
    """Guidance from two predictions, each a forward of its own, in the order of diffusers.

    combine  from cond and uncond of a modality, b ..., and the step, to the guided prediction
    on       whether a step is guided; if not, the prediction is `cond` alone
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
        """The networks of both predictions, or of `cond` alone where the step is not guided."""
        alone = self.cond.touches(step)
        return alone | self.uncond.touches(step) if self.on(step) else alone


def classifier_free(
    cond: Tensor, uncond: Tensor, step: Step, *, scale: float, rescale: float = 0.0
) -> Tensor:
    """uncond + scale (cond - uncond), partly rescaled to the deviation of `cond` (`rescale`)."""
    guided = uncond + scale * (cond - uncond)
    return rescale_guidance(guided, cond, rescale) if rescale > 0 else guided


def rescale_guidance(guided: Tensor, cond: Tensor, part: float) -> Tensor:
    """Give `part` of the guided prediction, b ..., the standard deviation of `cond`.

    Source: Lin et al., arXiv:2305.08891, section 3.4.
    """
    axes = list(range(1, cond.ndim))
    ratio = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return part * (guided * ratio) + (1 - part) * guided
