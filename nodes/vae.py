"""Pixels to latents, and latents to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import Image, Latents, Video


@dataclass(frozen=True, kw_only=True)
class EncodeVideo:
    """Encode RGB frames to normalised latents: the mode of what the encoder predicts.

    video    f 8h 8w 3, uint8, f is 4(t-1)+1 (factors as the VAE's config states them)
    latents  `video`: 1 c t h w, float32, zero mean and unit variance per channel

    Source: Wan report, arXiv:2503.20314 (VAE).
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, video: Video) -> Asking[Out]:
        """Ask for one encoding."""
        ((latents,),) = yield [Call(self.vae, encode_video, {"frames": video.frames[None]})]
        return self.Out(Latents({"video": latents}))


@dataclass(frozen=True, kw_only=True)
class EncodeImage:
    """Encode an RGB picture to shifted and scaled latents: the mode of what the encoder predicts.

    scaled   latents carry the VAE's scaling factor; normalised by channel, they may not
    image    8h 8w 3, uint8 (factor as the VAE's config states it); none: latents without parts
    latents  `image`: 1 c h w, in the VAE's dtype
    """

    vae: Component[VAE]
    scaled: bool = True

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, image: Image | None = None) -> Asking[Out]:
        """Ask for one encoding."""
        if image is None:
            return self.Out(Latents({}))
        batched, shared = {"pixels": image.pixels[None]}, {"scaled": self.scaled}
        ((latents,),) = yield [Call(self.vae, encode_image, batched, shared)]
        return self.Out(Latents({"image": latents}))


@dataclass(frozen=True, kw_only=True)
class DecodeVideo:
    """Decode normalised latents to RGB frames.

    latents  `video`: 1 c t h w, zero mean and unit variance per channel
    fps      frames per second
    video    4(t-1)+1 8h 8w 3, uint8 (factors as the VAE's config states them)

    Source: Wan report, arXiv:2503.20314 (VAE).
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        video: Video

    def run(self, *, latents: Latents, fps: float = 16) -> Asking[Out]:
        """Ask for one decoding."""
        batched = {"latents": latents.parts["video"]}
        ((frames,),) = yield [Call(self.vae, decode_video, batched)]
        return self.Out(Video(frames[0], fps))


@dataclass(frozen=True, kw_only=True)
class DecodeImage:
    """Decode scaled and shifted latents to an RGB picture.

    scaled         latents carry the VAE's scaling factor; normalised by channel, they may not
    latents        `image`: 1 c h w
    height, width  px: the picture is scaled to cover this size and cut around its middle
    image          8h 8w 3, uint8 (factor as the VAE's config states it), or of that size
    """

    vae: Component[VAE]
    scaled: bool = True

    class Out(NamedTuple):
        image: Image

    def run(
        self, *, latents: Latents, height: int | None = None, width: int | None = None
    ) -> Asking[Out]:
        """Ask for one decoding."""
        batched = {"latents": latents.parts["image"]}
        size = None if height is None or width is None else (height, width)
        shared = {"size": size, "scaled": self.scaled}
        ((pictures,),) = yield [Call(self.vae, decode_image, batched, shared)]
        return self.Out(Image(pictures[0]))


def encode_video(vae: VAE, frames: Tensor) -> tuple[Tensor]:
    """Pixels `b f h w 3`, uint8, to latents `b c t h w`, float32."""
    pixels = (2 * (frames.float() / 255) - 1).permute(0, 4, 1, 2, 3)
    latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
    return (normalise(latents.float(), vae.config),)


def encode_image(vae: VAE, pixels: Tensor, *, scaled: bool = True) -> tuple[Tensor]:
    """Pixels `b h w 3`, uint8, to latents `b c h w`."""
    signed = (2 * (pixels.float() / 255) - 1).permute(0, 3, 1, 2)
    latents = vae.encode(signed.to(vae.dtype)).latent_dist.mode()
    return (scale(latents, vae.config, scaled=scaled),)


def decode_video(vae: VAE, latents: Tensor) -> tuple[Tensor]:
    """Latents `b c t h w` to pixels `b f h w 3`, uint8."""
    pixels = vae.decode(denormalise(latents.to(vae.dtype), vae.config), return_dict=False)[0]
    return (to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous(),)


def decode_image(
    vae: VAE, latents: Tensor, *, size: tuple[int, int] | None = None, scaled: bool = True
) -> tuple[Tensor]:
    """Latents `b c h w` to pixels `b h w 3`, uint8, of this size where one is given."""
    own = unscale(latents.to(vae.dtype), vae.config, scaled=scaled)
    pixels = vae.decode(own, return_dict=False)[0]
    if size is not None:
        pixels = covering(pixels, *size)
    return (to_bytes(pixels).permute(0, 2, 3, 1).contiguous(),)


def covering(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels `b c h w`, scaled to cover a size and cut around the middle.

    Source: diffusers 0.42, `resize_and_crop_tensor` of image_processor.py.
    """
    rows, columns = pixels.shape[-2:]
    if (rows, columns) == (height, width):
        return pixels
    ratio = max(height / rows, width / columns)
    # Never a pixel short, as the product of floats can be.
    scaled = max(int(rows * ratio), height), max(int(columns * ratio), width)
    pixels = torch.nn.functional.interpolate(pixels, scaled, mode="bilinear", align_corners=False)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def scale(latents: Tensor, config: Any, *, scaled: bool = True) -> Tensor:
    """Latents `b c h w` from the VAE's own scale, by one number or, where stated, by channel."""
    factor = config.scaling_factor if scaled else 1
    if getattr(config, "latents_std", None) is not None:
        mean, deviation = by_channel(latents, config)
        return (latents - mean) / deviation * factor
    shift = getattr(config, "shift_factor", None)
    return (latents if shift is None else latents - shift) * factor


def unscale(latents: Tensor, config: Any, *, scaled: bool = True) -> Tensor:
    """Latents `b c h w` back to the VAE's own scale."""
    factor = config.scaling_factor if scaled else 1
    if getattr(config, "latents_std", None) is not None:
        mean, deviation = by_channel(latents, config)
        return latents * deviation / factor + mean
    shift = getattr(config, "shift_factor", None)
    plain = latents / factor
    return plain if shift is None else plain + shift


def by_channel(latents: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, 1 c 1 1, in the latents' dtype."""
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1).to(latents)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, deviation


def normalise(latents: Tensor, config: Any) -> Tensor:
    """Latents `b c t h w` as the VAE makes them to zero mean and unit variance per channel."""
    mean, reciprocal = statistics(latents, config)
    return (latents - mean) * reciprocal


def denormalise(latents: Tensor, config: Any) -> Tensor:
    """Latents `b c t h w` of unit variance back to the VAE's own mean and deviation.

    Per channel, or by one number where the VAE states no more.
    """
    if getattr(config, "latents_mean", None) is None:
        own: Tensor = latents / config.scaling_factor
        return own
    mean, reciprocal = statistics(latents, config)
    return latents / reciprocal + mean


def statistics(latents: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal of the deviation of each channel, 1 c 1 1 1, in the latents' dtype.

    The reference works with the reciprocal: dividing by it differs from multiplying in the last
    bit.
    """
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, 1.0 / deviation


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] of any shape to uint8, rounded half to even as numpy does."""
    return ((pixels * 0.5 + 0.5).clamp(0, 1).float() * 255).round().to(torch.uint8)
