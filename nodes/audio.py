"""Latents to sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from nodes.contracts import SoundNetwork
from nodes.finite import check_finite
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import Audio, Latents


@dataclass(frozen=True, kw_only=True)
class DecodeAudio:
    """Decode normalised latents to a spectrogram, and that to sound.

    latents  `audio`: 1 c l m, zero mean and unit variance per channel and place in the spectrum
    audio    c n, float32, at the rate that the vocoder's config states

    Source: LTX-2, arXiv:2601.03233; diffusers 0.42, pipelines/ltx2/pipeline_ltx2.py.
    """

    audio_vae: Component[SoundNetwork]
    vocoder: Component[SoundNetwork]

    class Out(NamedTuple):
        audio: Audio

    def run(self, *, latents: Latents) -> Asking[Out]:
        """Ask for one decoding and one forward of the vocoder."""
        batched = {"latents": latents.parts["audio"]}
        ((spectrogram,),) = yield [Call(self.audio_vae, decode_spectrogram, batched)]
        batched = {"spectrogram": spectrogram}
        ((samples,),) = yield [Call(self.vocoder, vocode, batched)]
        check_finite(samples, "the samples of the vocoder")
        return self.Out(Audio(samples[0], int(self.vocoder.config.output_sampling_rate)))


def decode_spectrogram(vae: Any, latents: Tensor) -> tuple[Tensor]:
    """Latents `b c l m` to a log-mel spectrogram, `b c frames bins`."""
    channels, bins = latents.shape[1], latents.shape[3]
    mean, deviation = (
        x.to(latents).view(channels, 1, bins) for x in (vae.latents_mean, vae.latents_std)
    )
    own = latents * deviation + mean
    return (vae.decode(own.to(vae.dtype), return_dict=False)[0],)


def vocode(net: Any, spectrogram: Tensor) -> tuple[Tensor]:
    """A log-mel spectrogram `b c frames bins` to samples `b c n`, float32."""
    return (net(spectrogram.to(net.dtype)).float(),)
