"""Scenes to pixels: places, motions and colours, signed distances, anti-aliased rendering."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo.scenes import CENTRES, RADII, RGB, SHAPES, Floats, Scenes

CANVAS = 128  # pixels
CLIP_FRAMES = 17  # 1 + 4k: what the VAE folds into 5 latent frames
# dx, dy, d log radius, d angle over a clip of 17 frames, per motion
MOVES = np.array(
    [
        (0, 0, 0, 0), (-0.5, 0, 0, 0), (0.5, 0, 0, 0), (0, -0.5, 0, 0), (0, 0.5, 0, 0),
        (0, 0, 1.2, 0), (0, 0, -1.2, 0), (0, 0, 0, math.pi / 2),
    ],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Geometry:
    """Continuous parameters of n scenes.

    place  n 2 4   per object: centre x and y, radius (shares of the canvas), angle
    move   n 4     dx, dy, d log radius, d angle of the first object over the clip
    rgb    n 3 3   colour 0..255 of the background and both objects
    """

    place: Floats
    move: Floats
    rgb: Floats

    def take(self, which: Any) -> Geometry:
        """The scenes that an index, slice or mask chooses."""
        return Geometry(self.place[which], self.move[which], self.rgb[which])


def geometry(scenes: Scenes, rng: np.random.Generator) -> Geometry:
    """Draw places, sizes and colours near those that the words name."""
    count = len(scenes)
    place = np.zeros((count, 2, 4), np.float32)
    place[:, 0, :2] = np.array(CENTRES, np.float32)[scenes.position] + rng.normal(
        0, 0.012, (count, 2)
    )
    place[:, 0, 2] = np.array(RADII, np.float32)[scenes.size] * np.exp(rng.normal(0, 0.04, count))
    place[(scenes.position > 1) & (scenes.size == 2), 0, 2] *= 0.85  # keeps large shapes in sight
    two = scenes.objects == 2
    for index, sign in ((0, -0.23), (1, 0.23)):
        beside = (scenes.relation == 0)[:, None]
        offset = np.where(beside, np.array([sign, 0.0]), np.array([0.0, sign]))
        centre = 0.5 + offset + rng.normal(0, 0.012, (count, 2))
        place[two, index, :2] = centre[two]
        place[two, index, 2] = (0.18 * np.exp(rng.normal(0, 0.04, count)))[two]
    travels = (scenes.motion >= 1) & (scenes.motion <= 4)
    place[:, 0, 2] = np.where(travels, place[:, 0, 2] * 0.8, place[:, 0, 2])
    named = RGB[np.stack([scenes.background, scenes.colour, scenes.second_colour], 1)]
    rgb = (named + rng.normal(0, 4, (count, 3, 3))).clip(0, 255).astype(np.float32)
    return Geometry(place, MOVES[scenes.motion], rgb)


def _length(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y + 1e-9)  # the term keeps the slope finite at the centre


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return _length(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.85


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    root, half = 3**0.5, 0.98
    x, y = x.abs() - half, y + 0.2 + half / root
    mirrored = x + root * y > 0
    x, y = (
        torch.where(mirrored, (x - root * y) / 2, x),
        torch.where(mirrored, (-root * x - y) / 2, y),
    )
    x = x - x.clamp(-2 * half, 0)
    return -_length(x, y) * torch.sign(y)


def _star(x: Tensor, y: Tensor) -> Tensor:
    cos36, minus_sin36, tip, inner = 0.809016994, -0.587785252, 1.08, 0.46
    x = x.abs()
    for cos in (cos36, -cos36):
        beyond = 2 * (cos * x + minus_sin36 * y).clamp(min=0)
        x, y = x - beyond * cos, y - beyond * minus_sin36
    x, y = x.abs(), y - tip
    edge_x, edge_y = inner * -minus_sin36, inner * cos36 - 1
    along = ((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2)).clamp(0, tip)
    outside = torch.sign(y * edge_x - x * edge_y)
    return _length(x - edge_x * along, y - edge_y * along) * outside


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (_length(x, y) - 0.76).abs() - 0.24


def _cross(x: Tensor, y: Tensor) -> Tensor:
    longer, shorter = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(longer - 1, shorter - 0.32)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs() * 0.58, y * 0.58 + 0.56
    middle = 0.5 * (x + y).clamp(min=0)
    squared = torch.minimum(x * x + (y - 1) ** 2, (x - middle) ** 2 + (y - middle) ** 2)
    lobe = _length(x - 0.25, y - 0.75) - 2**0.5 / 4
    return torch.where(y + x > 1, lobe, torch.sqrt(squared + 1e-9) * torch.sign(x - y)) / 0.58


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    return (x.abs() * 1.25 + y.abs() - 1.1) / 1.6


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star,
    "ring": _ring, "cross": _cross, "heart": _heart, "diamond": _diamond,
}  # fmt: skip


def signed_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Distance to the outline of a shape of unit size, negative inside; y points up."""
    return DISTANCES[shape](x, y)


@torch.no_grad()
def render(
    scenes: Scenes,
    where: Geometry,
    *,
    frames: int = 1,
    device: str = "cpu",
    window: tuple[int, int, int] = (0, 0, CANVAS),
) -> Tensor:
    """Draw scenes as `n 3 f h w` in [-1, 1].

    window   y, x and side of the part of the canvas that is drawn
    """
    top, left, side = window
    count = len(scenes) * frames
    place = _places_over_time(where, frames).to(device)
    rgb = torch.from_numpy(where.rgb / 127.5 - 1).repeat_interleave(frames, 0).to(device)
    canvas = rgb[:, 0, :, None, None].expand(-1, -1, side, side).clone()
    rows = torch.arange(side, device=device).float()[:, None] + top + 0.5
    columns = torch.arange(side, device=device).float()[None, :] + left + 0.5
    for index, shapes in enumerate((scenes.shape, scenes.second_shape)):
        visible = np.repeat(np.where(scenes.objects > index, shapes, -1), frames)
        for number, name in enumerate(SHAPES):
            which = torch.from_numpy(np.nonzero(visible == number)[0]).to(device)
            if not len(which):
                continue
            x0, y0, radius, angle = place[which, index, :, None, None].unbind(1)
            radius = radius * CANVAS
            x, y = (columns - x0 * CANVAS) / radius, -(rows - y0 * CANVAS) / radius
            cos, sin = torch.cos(angle), torch.sin(angle)
            distance = signed_distance(name, x * cos - y * sin, x * sin + y * cos) * radius
            cover = (0.5 - distance).clamp(0, 1)[:, None]
            ink = rgb[which, index + 1][:, :, None, None]
            canvas[which] = canvas[which] * (1 - cover) + ink * cover
    return canvas.view(count // frames, frames, 3, side, side).transpose(1, 2).contiguous()


def _places_over_time(where: Geometry, frames: int) -> Tensor:
    """Place of both objects in every frame, `n*f 2 4`. The middle frame shows what was drawn."""
    time = torch.linspace(-0.5, 0.5, frames) if frames > 1 else torch.zeros(1)
    place = torch.from_numpy(where.place)[:, None].repeat(1, frames, 1, 1)
    move = torch.from_numpy(where.move)[:, None]
    place[:, :, 0, :2] += move[..., :2] * time[:, None]
    place[:, :, 0, 2] *= torch.exp(move[..., 2] * time)
    place[:, :, 0, 3] += move[..., 3] * (time + 0.5)  # a rotation starts upright
    return place.flatten(0, 1)


def to_pixels(picture: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`3 h w` in [-1, 1] to `h w 3` uint8."""
    levels = (picture.float().clamp(-1, 1) + 1) * 127.5
    return levels.round().byte().permute(1, 2, 0).cpu().numpy()
