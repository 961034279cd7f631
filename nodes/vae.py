"""Pixels to latents, and latents to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE
from nodes.finite import decode, is_finite
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import Image, Latents, Video


@dataclass(frozen=True, kw_only=True)
class EncodeVideo:
    """Encode RGB frames to normalised latents: the mode of the distribution that the VAE predicts.

    video    4(t-1)+1 8h 8w 3, uint8 (the VAE's config states the factors)
    latents  `video`: 1 c t h w, float32, zero mean and unit variance per channel

    Source: Wan report, arXiv:2503.20314 (VAE).
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, video: Video) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        ((latents,),) = yield [Call(self.vae, encode_video, {"frames": video.frames[None]})]
        return self.Out(Latents({"video": latents}))


@dataclass(frozen=True, kw_only=True)
class EncodeImage:
    """Encode an RGB picture to latents: the mode of the distribution that the VAE predicts.

    scaled   whether latents are multiplied by the VAE's scaling factor
    image    8h 8w 3, uint8 (the VAE's config states the factor); without one, latents have no parts
    latents  `image`: 1 c h w, in the VAE's dtype
    """

    vae: Component[VAE]
    scaled: bool = True

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, image: Image | None = None) -> Asking[Out]:
        """Ask for one forward of the encoder."""
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
    video    4(t-1)+1 8h 8w 3, uint8 (the VAE's config states the factors)

    Source: Wan report, arXiv:2503.20314 (VAE).
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("latents", "fps")

    class Out(NamedTuple):
        video: Video

    def run(self, *, latents: Latents, fps: float = 16) -> Asking[Out]:
        """Ask for one forward of the decoder."""
        batched = {"latents": latents.parts["video"]}
        frames = yield from decode(self.vae, decode_video, batched)
        return self.Out(Video(frames[0], fps))


@dataclass(frozen=True, kw_only=True)
class DecodeImage:
    """Decode latents to an RGB picture.

    scaled         whether latents are multiplied by the VAE's scaling factor
    latents        `image`: 1 c h w
    height, width  px; the picture is scaled to cover this size and cropped around its centre
    image          8h 8w 3, uint8 (the VAE's config states the factor), or height width 3
    """

    vae: Component[VAE]
    scaled: bool = True
    sized: ClassVar[tuple[str, ...]] = ("height", "width", "latents")

    class Out(NamedTuple):
        image: Image

    def run(
        self, *, latents: Latents, height: int | None = None, width: int | None = None
    ) -> Asking[Out]:
        """Ask for one forward of the decoder."""
        batched = {"latents": latents.parts["image"]}
        size = None if height is None or width is None else (height, width)
        shared = {"size": size, "scaled": self.scaled}
        pictures = yield from decode(self.vae, decode_image, batched, shared)
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


def decode_video(vae: VAE, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Latents `b c t h w` to pixels `b f h w 3`, uint8, and whether they are finite, b."""
    pixels = vae.decode(denormalise(latents.to(vae.dtype), vae.config), return_dict=False)[0]
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous(), is_finite(pixels)


def decode_image(
    vae: VAE, latents: Tensor, *, size: tuple[int, int] | None = None, scaled: bool = True
) -> tuple[Tensor, Tensor]:
    """Latents `b c h w` to pixels `b h w 3`, uint8, and whether they are finite, b.

    size  height and width in px, or None
    """
    unscaled = unscale(latents.to(vae.dtype), vae.config, scaled=scaled)
    pixels = vae.decode(unscaled, return_dict=False)[0]
    if size is not None:
        pixels = resize_and_crop(pixels, *size)
    return to_bytes(pixels).permute(0, 2, 3, 1).contiguous(), is_finite(pixels)


def resize_and_crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """Scale pixels `b c h w` to cover a size in px, and crop them around the centre.

    Source: diffusers 0.42, `resize_and_crop_tensor` of image_processor.py.
    """
    rows, columns = pixels.shape[-2:]
    if (rows, columns) == (height, width):
        return pixels
    ratio = max(height / rows, width / columns)
    # The product of floats can be one pixel too small.
    scaled = max(int(rows * ratio), height), max(int(columns * ratio), width)
    pixels = torch.nn.functional.interpolate(pixels, scaled, mode="bilinear", align_corners=False)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def scale(latents: Tensor, config: Any, *, scaled: bool = True) -> Tensor:
    """Latents `b c h w` of the VAE, normalised: per channel where its config has `latents_std`."""
    factor = config.scaling_factor if scaled else 1
    if getattr(config, "latents_std", None) is not None:
        mean, deviation = image_statistics(latents, config)
        return (latents - mean) / deviation * factor
    shift = getattr(config, "shift_factor", None)
    return (latents if shift is None else latents - shift) * factor


def unscale(latents: Tensor, config: Any, *, scaled: bool = True) -> Tensor:
    """The inverse of `scale`: normalised latents `b c h w` as the VAE's decoder takes them."""
    factor = config.scaling_factor if scaled else 1
    if getattr(config, "latents_std", None) is not None:
        mean, deviation = image_statistics(latents, config)
        return latents * deviation / factor + mean
    shift = getattr(config, "shift_factor", None)
    unscaled = latents / factor
    return unscaled if shift is None else unscaled + shift


def image_statistics(latents: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, 1 c 1 1, in the latents' dtype."""
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1).to(latents)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, deviation


def normalise(latents: Tensor, config: Any) -> Tensor:
    """Latents `b c t h w` of the VAE, normalised to zero mean and unit variance per channel."""
    mean, reciprocal = video_statistics(latents, config)
    return (latents - mean) * reciprocal


def denormalise(latents: Tensor, config: Any) -> Tensor:
    """The inverse of `normalise`: latents `b c t h w` as the VAE's decoder takes them.

    A VAE whose config has no `latents_mean` is scaled by its one `scaling_factor`.
    """
    if getattr(config, "latents_mean", None) is None:
        unscaled: Tensor = latents / config.scaling_factor
        return unscaled
    mean, reciprocal = video_statistics(latents, config)
    return latents / reciprocal + mean


def video_statistics(latents: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal standard deviation of each channel, 1 c 1 1 1, in the latents' dtype.

    diffusers computes with the reciprocal: dividing by it differs in the last bit from multiplying
    by the deviation.
    """
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, 1.0 / deviation


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] of any shape to uint8, rounded half to even as in numpy."""
    return ((pixels * 0.5 + 0.5).clamp(0, 1).float() * 255).round().to(torch.uint8)
