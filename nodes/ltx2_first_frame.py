"""A clip whose first frame is given: its latents are not denoised.

Source of all here: LTX-2, arXiv:2601.03233; diffusers 0.42,
pipelines/ltx2/pipeline_ltx2_image2video.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from nodes.contracts import VAE
from nodes.image import resized
from nodes.latents import latent_channels, spatial_scale
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Parts, Step
from runtime.contract.values import Image, Latents
from runtime.files.image_files import to_numpy
from runtime.files.video_encode import h264_round_trip


@dataclass(frozen=True, kw_only=True)
class EncodeFirstFrame:
    """Encode the first frame of a clip, after H.264 compression as in the model's training.

    image          h w 3, uint8, stretched to height x width; without one, latents have no parts
    height, width  px
    crf            constant rate factor of H.264; 0 compresses without loss
    latents        `video`: 1 c 1 h w, float32, zero mean and unit variance per channel
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        latents: Latents

    def ignores(self, *, image: Image | None) -> dict[str, str]:
        """Without a picture nothing is compressed."""
        return {} if image is not None else {"crf": "there is no `request.image_path`"}

    def run(
        self, *, height: int, width: int, image: Image | None = None, crf: int = 33
    ) -> Asking[Out]:
        """Ask for one encoding."""
        if image is None:
            return self.Out(Latents({}))
        lossy = torch.from_numpy(compressed_like_a_clip(image.pixels, crf))
        pixels = resized(lossy, height, width, by=Pillow.Resampling.BILINEAR)
        ((latents,),) = yield [Call(self.vae, encode_frame, {"pixels": pixels[None]})]
        return self.Out(Latents({"video": latents}))

    def estimate(self, *, height: int, width: int) -> int:
        """Bytes of the picture and its latents, at most."""
        config = self.vae.config
        side = spatial_scale(config)
        return 12 * height * width + 4 * prod((latent_channels(config), height, width)) // side**2


@dataclass(frozen=True, kw_only=True)
class PlaceFirstFrame:
    """Put a known first frame in the place of the noise.

    latents  `video`: 1 c t h w, and other modalities, which stay
    first    `video`: 1 c 1 h w; without parts the latents stay as they are
    """

    sized: ClassVar[tuple[str, ...]] = ("latents",)

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, latents: Latents, first: Latents) -> Out:
        """Replace the frame."""
        known = first.parts.get("video")
        if known is None:
            return self.Out(latents)
        video = torch.cat([known, latents.parts["video"][:, :, 1:]], dim=2)
        return self.Out(Latents({**latents.parts, "video": video}))


@dataclass(frozen=True, kw_only=True)
class FixFirstFrame:
    """Keep a given first frame: its velocity is 0.

    first     `video`: 1 c 1 h w; without parts the denoiser stays as it is
    denoiser  predicts velocities; the velocity of the first frame of `video` is 0
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, denoiser: Denoiser, first: Latents) -> Out:
        """Bind."""
        return self.Out(HeldFirst(denoiser) if "video" in first.parts else denoiser)


@dataclass(frozen=True, eq=False)
class HeldFirst:
    """The prediction of a denoiser, with a velocity of 0 in the first frame."""

    denoiser: Denoiser

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for the calls of the denoiser."""
        velocities = yield from self.denoiser.predict(x, step.at("denoiser"))
        video = velocities["video"]
        still = torch.cat([torch.zeros_like(video[:, :, :1]), video[:, :, 1:]], dim=2)
        return {**velocities, "video": still}

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of the denoiser."""
        return self.denoiser.touches(step)


def compressed_like_a_clip(picture: Any, crf: int) -> NDArray[np.uint8]:
    """A picture h w 3, uint8, with the loss of an H.264 frame and its sides cut to even ones.

    crf  1 to 51; 0 returns the picture unchanged

    Source: diffusers 0.42, `apply_image_conditioning_crf` of pipelines/ltx2/utils.py.
    """
    pixels = to_numpy(picture)
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    if crf == 0 or not height * width:
        return pixels
    return h264_round_trip(pixels[:height, :width], crf)


def encode_frame(vae: Any, pixels: Tensor) -> tuple[Tensor]:
    """Pixels `b h w 3`, uint8, to latents `b c 1 h w`, float32: the mode of what is predicted."""
    signed = (2 * (pixels.float() / 255) - 1).permute(0, 3, 1, 2)
    latents = vae.encode(signed[:, :, None].to(vae.dtype)).latent_dist.mode().float()
    mean, deviation = (
        x.view(1, -1, 1, 1, 1).to(latents) for x in (vae.latents_mean, vae.latents_std)
    )
    return ((latents - mean) / deviation,)
