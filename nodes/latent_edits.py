"""Latents between two denoising loops: resized, blended, and given new noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from runtime.contract.values import Image, Latents, Rng
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Scale the rows and columns of latents, for a second pass at a larger size.

    method   of `torch.nn.functional.interpolate`: `nearest-exact`, `bilinear` or `bicubic`
    scale    factor of height and width
    latents  b c h w or b c t h w, by modality; tokens (b l d) cannot be scaled
    """

    method: Literal["nearest-exact", "bilinear", "bicubic"] = "bilinear"

    class Out(NamedTuple):
        latents: Latents

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """A scale of 1 changes nothing."""
        return "latents" if scale == 1 else None

    def run(self, *, latents: Latents, scale: float) -> Out:
        """Each modality; frames one by one."""
        parts = {name: scaled(x, scale, self.method) for name, x in latents.parts.items()}
        return self.Out(Latents(parts))


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Mix two latents of equal shape.

    weight    of `two`, 0 to 1
    one, two  by modality
    mask      h w c, uint8, of any size: white takes all of `weight`, black takes none
    """

    weight: float = 0.5

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, one: Latents, two: Latents, mask: Image | None = None) -> Out:
        """one + weight mask (two - one)."""
        parts = {}
        for name, x in one.parts.items():
            y = two.parts.get(name)
            if y is None or y.shape != x.shape:
                raise UserError(
                    f"`{name}` latents have different shapes: {tuple(x.shape)} and "
                    f"{tuple(y.shape) if y is not None else 'none'}",
                    help="make both of the same height, width and number of frames",
                )  # fmt: skip
            part = x.new_full((), self.weight)
            if mask is not None:
                part = part * mask_of(mask, x)
            parts[name] = x + part * (y - x)
        return self.Out(Latents(parts))


@dataclass(frozen=True, kw_only=True)
class NoiseLike:
    """Draw noise in the shape of latents.

    latents  by modality; the noise has their shapes and dtypes
    rng      the generator; the output is its next state
    """

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(self, *, latents: Latents, rng: Rng) -> Out:
        """Draw on the CPU, so that a seed means the same on every device."""
        parts = {}
        for name, x in latents.parts.items():
            parts[name], rng = rng.normal(tuple(x.shape), x.dtype)
        return self.Out(Latents(parts), rng)


def scaled(x: Tensor, scale: float, method: str) -> Tensor:
    """Latents b c h w or b c t h w at another size; rows and columns stay even."""
    if x.ndim not in {4, 5}:
        raise UserError(
            f"latents of shape {tuple(x.shape)} have no rows and columns to scale",
            help="scale the picture instead: {type: pictures.Resize}",
        )
    size = [max(2, round(n * scale / 2) * 2) for n in x.shape[-2:]]
    frames = x if x.ndim == 4 else x.movedim(2, 1).flatten(0, 1)
    made = interpolate(frames.float(), size=size, mode=method).to(x.dtype)
    return made if x.ndim == 4 else made.reshape(*x.shape[:3:2], *made.shape[1:]).movedim(1, 2)


def mask_of(mask: Image, x: Tensor) -> Tensor:
    """A mask 0 to 1 in the rows and columns of latents, to multiply with them."""
    white = mask.pixels[..., 0].to(torch.float32) / 255
    fitted = interpolate(white[None, None], size=x.shape[-2:], mode="area")
    return fitted.to(x.dtype) if x.ndim == 4 else fitted[:, :, None].to(x.dtype)
