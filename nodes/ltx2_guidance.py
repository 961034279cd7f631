"""Guidance of video and audio that are denoised together, each with scales of its own.

Source of all here: LTX-2, arXiv:2601.03233; diffusers 0.42, pipelines/ltx2/pipeline_ltx2.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from nodes.guidance import rescale_guidance
from runtime.contract.calls import Asking, gather
from runtime.contract.denoising import Denoiser, Parts, Step


class Strength(NamedTuple):
    """Guidance scales of one modality.

    prompt   of classifier-free guidance; off at 1
    blocks   of spatio-temporal guidance (STG); off at 0
    others   of modality guidance; off at 1
    rescale  part of the guided sample that is rescaled to the standard deviation of `cond`
    """

    prompt: float
    blocks: float
    others: float
    rescale: float


@dataclass(frozen=True, kw_only=True)
class Unconditional:
    """The unconditional prediction; `cond` where classifier-free guidance is off.

    audio_scale  0 or none takes `scale`
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float, audio_scale: float | None) -> str | None:
        """Classifier-free guidance is off where no scale is above 1."""
        return "cond" if max(scale, audio_scale or scale) <= 1 else None

    def run(
        self,
        *,
        cond: Denoiser,
        uncond: Denoiser,
        scale: float,
        audio_scale: float | None = None,
    ) -> Out:
        """Pass on."""
        return self.Out(cond if self.bypass(scale=scale, audio_scale=audio_scale) else uncond)


@dataclass(frozen=True, kw_only=True)
class JointGuidance:
    """Guide denoised samples: classifier-free, spatio-temporal (STG) and modality guidance.

    uncond          prediction of the negative prompt; its scale is `scale`
    weakened        prediction with weakened blocks, for STG; its scale is `stg_scale`
    isolated        prediction of each modality alone; its scale is `modality_scale`
    rescale         part of the guided sample that is rescaled to the standard deviation of `cond`
    audio_...       the same scales for `audio`; 0 or none takes that of `video`

    STG: arXiv:2411.18664; rescaling: arXiv:2305.08891, section 3.4.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    def ignores(
        self,
        *,
        stg_scale: float,
        modality_scale: float,
        audio_stg_scale: float | None,
        audio_modality_scale: float | None,
    ) -> dict[str, str]:
        """Report the predictions that are not used, because their guidance is off."""
        found = {}
        if max(stg_scale, audio_stg_scale or stg_scale) <= 0:
            found["weakened"] = "spatio-temporal guidance (STG) is off at a scale of 0"
        if max(modality_scale, audio_modality_scale or modality_scale) <= 1:
            found["isolated"] = "modality guidance is off at a scale of 1 or less"
        return found

    def run(
        self,
        *,
        cond: Denoiser,
        uncond: Denoiser,
        weakened: Denoiser,
        isolated: Denoiser,
        scale: float,
        stg_scale: float,
        modality_scale: float,
        rescale: float,
        audio_scale: float | None = None,
        audio_stg_scale: float | None = None,
        audio_modality_scale: float | None = None,
        audio_rescale: float | None = None,
    ) -> Out:
        """Bind the four predictions."""
        video = Strength(scale, stg_scale, modality_scale, rescale)
        of_audio = audio_scale, audio_stg_scale, audio_modality_scale, audio_rescale
        audio = Strength(*(own or other for own, other in zip(of_audio, video, strict=True)))
        weak = (uncond, weakened, isolated)
        return self.Out(JointlyGuided(cond, weak, {"video": video, "audio": audio}))


@dataclass(frozen=True, eq=False)
class JointlyGuided:
    """cond plus strength (cond - weak) for each of `weak`, between denoised samples.

    weak       of the negative prompt, with weakened blocks, with each modality alone
    strengths  by modality
    """

    cond: Denoiser
    weak: tuple[Denoiser, Denoiser, Denoiser]
    strengths: dict[str, Strength]

    @property
    def asked(self) -> list[int]:
        """Which of `weak` are predicted: those with any strength that is on."""
        off = (1, 0, 1)
        every = self.strengths.values()
        return [i for i in range(3) if any(strength[i] > off[i] for strength in every)]

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for all predictions at once; the executor may batch or split them."""
        velocities = yield from gather(
            self.cond.predict(x, step.at("cond")),
            *(self.weak[i].predict(x, step.at(f"weak{i}")) for i in self.asked),
        )
        guided = {}
        for k, strength in self.strengths.items():
            cond, *weak = (x[k] - velocity[k] * step.sigma for velocity in velocities)
            sample = self.guided(cond, dict(zip(self.asked, weak, strict=True)), strength)
            guided[k] = (x[k] - sample) / step.sigma
        return guided

    @staticmethod
    def guided(cond: Tensor, weak: dict[int, Tensor], strength: Strength) -> Tensor:
        """Guide one denoised sample, `b ...`. weak: by place."""
        factors = strength.prompt - 1, strength.blocks, strength.others - 1
        sample = cond
        for i, other in weak.items():
            sample = sample + factors[i] * (cond - other)
        return rescale_guidance(sample, cond, strength.rescale) if strength.rescale > 0 else sample

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of all predictions."""
        asked = (self.cond, *(self.weak[i] for i in self.asked))
        return frozenset().union(*(each.touches(step) for each in asked))
