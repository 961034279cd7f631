"""LTX-Video: a transformer conditioned on the frame rate, and a timestep-conditioned decoder.

Source of all here: LTX-Video, arXiv:2501.00103; diffusers 0.42, pipelines/ltx/pipeline_ltx.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE, Transformer
from nodes.finite import decode, is_finite
from nodes.latents import spatial_scale, temporal_scale
from nodes.prediction import Prediction
from nodes.vae import to_bytes
from runtime.contract.calls import Asking
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser
from runtime.contract.values import Latents, Rng, TextEmbeds, Video

WITHOUT_TIMESTEP = dict.fromkeys(
    ("timestep", "noise_scale"), "the decoder of this checkpoint takes no timestep"
)


@dataclass(frozen=True, kw_only=True)
class LTXDenoiser:
    """Bind a prompt and a frame rate to an LTX-Video transformer.

    text      tokens 1 l d, mask 1 l
    fps       frames per second: positions in time are seconds
    denoiser  predicts the velocity of `video`, b c t h w, in float32
    """

    transformer: Component[Transformer]
    vae: Component[VAE]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds, fps: float = 25) -> Out:
        """Bind; no weight is touched."""
        side = spatial_scale(self.vae.config)
        steps = temporal_scale(self.vae.config) / fps, side, side
        bound = {"text": text.tokens, "mask": text.mask}
        shared = {"steps": steps}
        return self.Out(Prediction(self.transformer, predict_velocity, bound, "video", shared))


@dataclass(frozen=True, kw_only=True)
class DecodeLTXVideo:
    """Decode latents to RGB frames, by a decoder that may take the last step of denoising itself.

    latents      `video`: 1 c t h w, zero mean and unit variance per channel
    like         hidden states: noise is drawn and mixed in in their dtype
    timestep     at which a timestep-conditioned decoder decodes, 0 to 1
    noise_scale  part of noise that is mixed in before decoding; by default the timestep
    rng          as denoising left it; a decoder without a timestep draws nothing
    fps          frames per second
    video        8(t-1)+1 32h 32w 3, uint8 (factors as the VAE's config states them)
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("latents", "fps")

    class Out(NamedTuple):
        video: Video

    def ignores(self) -> dict[str, str]:
        """A decoder without a timestep ignores the inputs that only noise the latents."""
        takes = getattr(self.vae.config, "timestep_conditioning", False)
        return {} if takes else WITHOUT_TIMESTEP

    def run(
        self,
        *,
        latents: Latents,
        like: TextEmbeds,
        rng: Rng,
        timestep: float = 0.0,
        noise_scale: float | None = None,
        fps: float = 25,
    ) -> Asking[Out]:
        """Ask for one decoding."""
        video, config = latents.parts["video"], self.vae.config
        batched: dict[str, Any] = {"latents": video}
        shared: dict[str, Any] = {"dtype": like.tokens.dtype}
        if getattr(config, "timestep_conditioning", False):
            batched["noise"], rng = rng.normal(tuple(video.shape), like.tokens.dtype)
            mixed = timestep if noise_scale is None else noise_scale
            batched["mixed"] = torch.full([len(video)], mixed)
            batched["timestep"] = torch.full([len(video)], timestep)
        if any(getattr(config, "decoder_inject_noise", ())):
            shared["seed"], _ = rng.using(lambda g: int(torch.randint(1 << 62, (), generator=g)))
        frames = yield from decode(self.vae, decode_noisy, batched, shared)
        return self.Out(Video(frames[0], fps))


def predict_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    mask: Tensor,
    steps: tuple[float, int, int],
) -> tuple[Tensor]:
    """latents b c t h w, timestep b, text b l d, mask b l to velocity b c t h w, float32.

    steps  from one latent to the next, along time, rows and columns: seconds and pixels
    """
    frames, rows, columns = latents.shape[2:]
    output = net(
        hidden_states=latents.to(net.dtype).flatten(2).transpose(1, 2),
        encoder_hidden_states=text.to(net.dtype),
        timestep=timestep,
        encoder_attention_mask=mask,
        num_frames=frames,
        height=rows,
        width=columns,
        rope_interpolation_scale=steps,
        return_dict=False,
    )
    velocity = output[0].float().transpose(1, 2)
    return (velocity.unflatten(2, (frames, rows, columns)),)


def decode_noisy(
    vae: Any,
    latents: Tensor,
    noise: Tensor | None = None,
    mixed: Tensor | None = None,
    timestep: Tensor | None = None,
    *,
    dtype: torch.dtype,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents `b c t h w` to pixels `b f h w 3`, uint8, and whether they are finite, b.

    noise     b c t h w, mixed into the latents: (1 - mixed) latents + mixed noise
    timestep  b, for the decoder
    seed      of noise that the decoder draws itself, from the global generator
    """
    mean, deviation = (
        x.view(1, -1, 1, 1, 1).to(latents) for x in (vae.latents_mean, vae.latents_std)
    )
    own = (latents * deviation / vae.config.scaling_factor + mean).to(dtype)
    if noise is not None and mixed is not None and timestep is not None:
        part = mixed.to(dtype).view(-1, 1, 1, 1, 1)
        own, timestep = (1 - part) * own + part * noise, timestep.to(dtype)
    device = latents.device
    accelerators = [] if device.index is None else [device.index]
    with torch.random.fork_rng(accelerators, seed is not None, device_type=device.type):
        if seed is not None:
            torch.manual_seed(seed)
        pixels = vae.decode(own.to(vae.dtype), timestep, return_dict=False)[0]
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous(), is_finite(pixels)
