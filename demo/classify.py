"""Read pictures and clips of one object by plain image analysis: no network, nothing learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demo.drawing import Geometry, render
from demo.scenes import (
    CENTRES,
    COLOURS,
    GROWING,
    MOTIONS,
    RADII,
    RGB,
    ROTATING,
    SHAPES,
    SHRINKING,
    Floats,
    Scene,
    scenes_of,
)

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
PICTURE_ASPECTS = ("background", "colour", "shape", "position", "size")
CLIP_ASPECTS = ("background", "colour", "shape", "motion")
NOTHING = -1  # a colour or shape that could not be read


@dataclass(frozen=True)
class Reading:
    """What one picture shows; indices into the tables of `demo.scenes`, lengths as shares of it.

    shape, colour   NOTHING where the picture is blank
    x, y            centre of the bounding box
    area            share of the picture that the object covers
    """

    background: int
    colour: int = NOTHING
    shape: int = NOTHING
    x: float = 0.5
    y: float = 0.5
    width: float = 0.0
    height: float = 0.0
    area: float = 0.0

    def words(self) -> dict[str, Any]:
        """The same in words, for reports."""
        return {
            "background": COLOURS[self.background],
            "colour": COLOURS[self.colour] if self.colour >= 0 else None,
            "shape": SHAPES[self.shape] if self.shape >= 0 else None,
            "x": round(self.x, 2),
            "y": round(self.y, 2),
        }


def read_picture(pixels: Pixels) -> Reading:
    """Read background, colour, shape, place and size of the one object in `h w 3`."""
    image = pixels.astype(np.float32)
    edges = (image[:3], image[-3:], image[:, :3], image[:, -3:])
    ground = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), 0)
    distance, far = _distance_from(image, ground)
    if far < 25:
        return Reading(_nearest_colour(ground))
    mask = distance > 0.5 * far
    box = _bounding_box(mask)
    (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
    height, width = mask.shape
    return Reading(
        background=_nearest_colour(ground),
        colour=_nearest_colour(np.median(image[distance > 0.8 * far], 0)),
        shape=_nearest_shape(mask[box]),
        x=(left + right) / 2 / width,
        y=(top + bottom) / 2 / height,
        width=(right - left) / width,
        height=(bottom - top) / height,
        area=float(mask.mean()),
    )


def read_motion(clip: Pixels) -> int:
    """Read the motion in `f h w 3` off its first, middle and last frame: an index into MOTIONS."""
    middle = len(clip) // 2
    first, _, last = readings = [read_picture(clip[index]) for index in (0, middle, -1)]
    if min(reading.area for reading in readings) == 0:
        return 0
    right, down = last.x - first.x, last.y - first.y
    growth = 0.5 * math.log(last.area / first.area)
    if max(abs(right), abs(down)) > 0.15:
        sideways = "right" if right > 0 else "left"
        upright = "down" if down > 0 else "up"
        return MOTIONS.index(sideways if abs(right) > abs(down) else upright)
    if abs(growth) > 0.3:
        return GROWING if growth > 0 else SHRINKING
    before, after = _object_mask(clip[0]), _object_mask(clip[middle])
    overlap = (before & after).sum() / max(1, (before | after).sum())
    return ROTATING if overlap < 0.85 else 0


def judge_picture(scene: Scene, pixels: Pixels) -> dict[str, bool]:
    """Whether `h w 3` shows what the scene says, per aspect."""
    seen = read_picture(pixels)
    x, y = CENTRES[scene.position]
    extent = max(seen.width, seen.height) / 2
    size = min(range(3), key=lambda i: abs(math.log(extent / RADII[i]))) if extent else NOTHING
    return {
        "background": seen.background == scene.background,
        "colour": seen.colour == scene.colour,
        "shape": seen.shape == scene.shape,
        "position": (_third(seen.x), _third(seen.y)) == (_third(x), _third(y)),
        "size": size == scene.size,
    }


def judge_clip(scene: Scene, clip: Pixels) -> dict[str, bool]:
    """Whether `f h w 3` shows what the scene says, per aspect; the middle frame shows the shape."""
    seen = read_picture(clip[len(clip) // 2])
    return {
        "background": seen.background == scene.background,
        "colour": seen.colour == scene.colour,
        # a turned square is a diamond: the shape of what rotates cannot be wrong
        "shape": seen.shape == scene.shape or scene.motion == ROTATING,
        "motion": read_motion(clip) == scene.motion,
    }


def _third(share: float) -> int:
    return 0 if share < 0.40 else 2 if share > 0.60 else 1


def _nearest_colour(colour: Floats) -> int:
    return int(((RGB - colour) ** 2).sum(1).argmin())


def _distance_from(image: Floats, ground: Floats) -> tuple[Floats, float]:
    """Distance of every pixel from a colour, `h w`, and how far the farthest are."""
    distance = np.sqrt(((image - ground) ** 2).sum(-1))
    return distance, float(np.percentile(distance, 99.5))


def _object_mask(pixels: Pixels) -> Mask:
    """Where the object is, `h w`; the top row of pixels tells the background."""
    image = pixels.astype(np.float32)
    distance, far = _distance_from(image, np.median(image[0], 0))
    return np.asarray(distance > 0.5 * far)


def _bounding_box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = np.nonzero(mask)
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def _nearest_shape(mask: Mask) -> int:
    """The drawn shape that overlaps best, both cut to their bounding boxes and stretched alike."""
    stretched = _stretch(mask)
    overlaps = [
        float(np.minimum(stretched, model).sum() / np.maximum(stretched, model).sum())
        for model in _drawn_shapes()
    ]
    return int(np.argmax(overlaps))


def _stretch(mask: Mask) -> Floats:
    """A mask of any size as `48 48` in [0, 1]."""
    plane = torch.from_numpy(mask.astype(np.float32))[None, None]
    resized = torch.nn.functional.interpolate(plane, (48, 48), mode="bilinear")
    return resized[0, 0].numpy()


@cache
def _drawn_shapes() -> tuple[Floats, ...]:
    """Every shape as `_stretch` sees it, `48 48`."""
    black, white = COLOURS.index("black"), COLOURS.index("white")
    models = []
    for shape in range(len(SHAPES)):
        scene = Scene(1, shape, black, 0, 0, 0, 0, 0, white, 0)
        place = np.zeros((1, 2, 4), np.float32)
        place[0, 0] = (0.5, 0.5, 0.33, 0)
        drawn = Geometry(place, np.zeros((1, 4), np.float32), RGB[[[white, black, black]]])
        mask = render(scenes_of(np.array([scene])), drawn)[0, 0, 0].numpy() < 0
        models.append(_stretch(mask[_bounding_box(mask)]))
    return tuple(models)
