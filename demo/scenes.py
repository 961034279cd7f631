"""What a picture may show: shapes, colours, sizes, positions and motions, drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

PALETTE = {
    "red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 220, 50),
    "green": (45, 165, 70), "cyan": (60, 205, 220), "blue": (40, 85, 220),
    "purple": (130, 55, 180), "pink": (250, 140, 190), "brown": (125, 75, 40),
    "black": (22, 22, 22), "gray": (140, 140, 140), "white": (245, 245, 245),
}  # fmt: skip
COLOURS = tuple(PALETTE)
RGB: Floats = np.array(list(PALETTE.values()), np.float32)
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")
# The empty word stands for "not said": the default size, the centre, no motion.
SIZES = ("", "small", "large")
RADII = (0.25, 0.15, 0.36)  # of the canvas, per size
POSITIONS = (
    "", "center", "left", "right", "top", "bottom",
    "top left", "top right", "bottom left", "bottom right",
)  # fmt: skip
CENTRES = (
    (0.5, 0.5), (0.5, 0.5), (0.27, 0.5), (0.73, 0.5), (0.5, 0.27), (0.5, 0.73),
    (0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73),
)  # fmt: skip
MOTIONS = ("", "left", "right", "up", "down", "growing", "shrinking", "rotating")
GROWING, SHRINKING, ROTATING = 5, 6, 7
LOOKS_ROTATED_THE_SAME = (SHAPES.index("circle"), SHAPES.index("ring"))


class Scene(NamedTuple):
    """One picture or clip; every field is an index into the table of its name.

    objects   1 or 2
    relation  of two objects: 0 side by side, 1 one above the other
    """

    objects: int
    shape: int
    colour: int
    size: int
    position: int
    second_shape: int
    second_colour: int
    relation: int
    background: int
    motion: int


@dataclass(frozen=True)
class Scenes:
    """Many scenes: the fields of `Scene`, each an array `n`."""

    objects: Ints
    shape: Ints
    colour: Ints
    size: Ints
    position: Ints
    second_shape: Ints
    second_colour: Ints
    relation: Ints
    background: Ints
    motion: Ints

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[Scene]:
        for row in self.table():
            yield Scene(*map(int, row))

    def table(self) -> Ints:
        """All fields as one array `n 10`, columns in the order of `Scene`."""
        return np.stack([getattr(self, field.name) for field in fields(self)], 1)

    def take(self, which: Any) -> Scenes:
        """The scenes that an index, slice or mask chooses."""
        return scenes_of(self.table()[which])


def scenes_of(table: Ints) -> Scenes:
    """Scenes from an array `n 10` as `Scenes.table` writes it."""
    return Scenes(*np.asarray(table, np.int64).T)


def held_out(shape: Ints, colour: Ints, background: Ints) -> NDArray[np.bool_]:
    """Which combinations `n` are never trained on: one in ten."""
    return np.asarray((shape * 7 + colour * 3 + background * 5) % 10 == 0)


def sample_scenes(
    count: int,
    rng: np.random.Generator,
    *,
    video: bool = False,
    two: float = 0.2,
    want_held_out: bool = False,
) -> Scenes:
    """Draw scenes, all of them trained on or all of them held out.

    two   share of scenes with two objects; a clip always has one
    """
    shape, colour, background = _combinations(count, rng, want_held_out)
    size = rng.choice(3, count, p=[0.5, 0.25, 0.25])
    position = np.where(rng.random(count) < 0.4, 0, rng.integers(1, len(POSITIONS), count))
    objects = 1 + (rng.random(count) < two)
    second_shape = rng.integers(len(SHAPES), size=count)
    second_colour = rng.integers(len(COLOURS), size=count)
    hidden = second_colour == background
    second_colour = np.where(hidden, (second_colour + 1) % len(COLOURS), second_colour)
    relation = rng.integers(2, size=count)
    motion = np.zeros(count, np.int64)
    if video:
        motion = np.where(rng.random(count) < 0.1, 0, rng.integers(1, len(MOTIONS), count))
        unseen = (motion == ROTATING) & np.isin(shape, LOOKS_ROTATED_THE_SAME)
        motion = np.where(unseen, rng.integers(1, ROTATING, count), motion)
        objects = np.ones(count, np.int64)
        position = np.where(motion > 0, 0, position)
        size = np.where((motion == GROWING) | (motion == SHRINKING), 0, size)
    return Scenes(
        objects, shape, colour, size, position, second_shape, second_colour, relation, background,
        motion,
    )  # fmt: skip


def _combinations(
    count: int, rng: np.random.Generator, want_held_out: bool
) -> tuple[Ints, Ints, Ints]:
    """Shapes, colours and other background colours, each `n`, drawn by rejection."""
    accepted = np.zeros((3, count), np.int64)
    done = 0
    while done < count:
        tries = 2 * (count - done) + 16
        shape = rng.integers(len(SHAPES), size=tries)
        colour = rng.integers(len(COLOURS), size=tries)
        background = rng.integers(len(COLOURS), size=tries)
        fits = (colour != background) & (held_out(shape, colour, background) == want_held_out)
        more = min(int(fits.sum()), count - done)
        accepted[:, done : done + more] = np.stack([shape, colour, background])[:, fits][:, :more]
        done += more
    return accepted[0], accepted[1], accepted[2]
