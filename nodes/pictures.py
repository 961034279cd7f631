"""Pictures and clips put side by side, cut, resized, sharpened and blended.

Every node takes a picture or a clip and returns the same kind: `picture` is h w c, or f h w c for a
clip, uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageFilter
from torch import Tensor

from runtime.contract.values import Image, Video
from runtime.errors import UserError
from runtime.files.image_files import to_numpy

M = TypeVar("M", Image, Video)
FILTERS = {
    "lanczos": Pillow.Resampling.LANCZOS, "bicubic": Pillow.Resampling.BICUBIC,
    "bilinear": Pillow.Resampling.BILINEAR, "nearest": Pillow.Resampling.NEAREST,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Put pictures side by side, or one below the other.

    direction  `row` or `column`
    gap        px between them, white
    pictures   of equal size; of clips the shorter ones hold their last frame
    """

    direction: Literal["row", "column"] = "row"
    gap: int = 0

    class Out(NamedTuple, Generic[M]):
        picture: M

    def run(self, *, pictures: tuple[M, ...]) -> Out[M]:
        """A grid of one row, or of one column."""
        columns = len(pictures) if self.direction == "row" else 1
        return self.Out(grid(pictures, columns, self.gap))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Put pictures into rows, as on a contact sheet.

    columns   pictures per row; none: as many as make the grid nearly square
    gap       px between them, white
    pictures  of equal size; of clips the shorter ones hold their last frame
    """

    columns: int | None = None
    gap: int = 0

    class Out(NamedTuple, Generic[M]):
        picture: M

    def run(self, *, pictures: tuple[M, ...]) -> Out[M]:
        """Fill the rows from the left; places that stay empty are white."""
        columns = self.columns or int(np.ceil(np.sqrt(len(pictures))))
        return self.Out(grid(pictures, columns, self.gap))


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Cut a rectangle out of a picture.

    top, left      px that are cut off above and on the left
    height, width  px of the result
    """

    class Out(NamedTuple, Generic[M]):
        picture: M

    def run(self, *, picture: M, height: int, width: int, top: int = 0, left: int = 0) -> Out[M]:
        """A UserError where the rectangle is not inside the picture."""
        rows, columns = frames_of(picture).shape[1:3]
        for name, start, length, most in (
            ("height", top, height, rows), ("width", left, width, columns)
        ):  # fmt: skip
            if start < 0 or length < 1 or start + length > most:
                raise UserError(
                    f"a crop of {name} {length} from {start} on is not inside {most} px",
                    help="choose a smaller rectangle", field=name,
                )  # fmt: skip
        cut = frames_of(picture)[:, top : top + height, left : left + width]
        return self.Out(like(picture, cut))


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Stretch a picture to a size.

    method         filter of Pillow: `lanczos`, `bicubic`, `bilinear` or `nearest`
    height, width  px of the result
    """

    method: Literal["lanczos", "bicubic", "bilinear", "nearest"] = "lanczos"
    sized: ClassVar[tuple[str, ...]] = ("height", "width")

    class Out(NamedTuple, Generic[M]):
        picture: M

    def run(self, *, picture: M, height: int, width: int) -> Out[M]:
        """Every frame."""
        size, method = (width, height), FILTERS[self.method]
        return self.Out(filtered(picture, lambda p: p.resize(size, method)))


@dataclass(frozen=True, kw_only=True)
class Sharpen:
    """Sharpen a picture by an unsharp mask.

    amount  how much of the difference to the blurred picture is added; 0 changes nothing
    radius  px of the blur
    """

    amount: float = 1.0
    radius: float = 1.0
    sized: ClassVar[tuple[str, ...]] = ("picture",)

    class Out(NamedTuple, Generic[M]):
        picture: M

    @staticmethod
    def bypass(*, amount: float) -> str | None:
        """An amount of 0 changes nothing."""
        return "picture" if amount == 0 else None

    def run(self, *, picture: M) -> Out[M]:
        """Every frame."""
        mask = ImageFilter.UnsharpMask(self.radius, round(100 * self.amount), threshold=0)
        return self.Out(filtered(picture, lambda p: p.filter(mask)))


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Mix two pictures of equal size.

    weight    of `two`, 0 to 1
    one, two  pictures or clips
    mask      h w c, uint8: white takes all of `weight`, black takes none
    """

    weight: float = 0.5

    class Out(NamedTuple, Generic[M]):
        picture: M

    def run(self, *, one: M, two: M, mask: Image | None = None) -> Out[M]:
        """one + weight mask (two - one), rounded."""
        a, b = aligned([one, two])
        if a.shape != b.shape:
            raise _other_size(a, b)
        part = torch.full((1, 1, 1, 1), self.weight, device=a.device)
        if mask is not None:
            if mask.pixels.shape[:2] != a.shape[1:3]:
                raise _other_size(a, mask.pixels[None])
            part = part * mask.pixels[..., :1].float() / 255
        mixed = torch.lerp(a.float(), b.float(), part.expand(a.shape))
        return self.Out(like(one, mixed.round().to(torch.uint8)))


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """Draw a mask: a white rectangle on black.

    top, left, bottom, right  its edges as parts of the height and the width, 0 to 1
    feather                   px over which the edge fades
    height, width             px of the mask
    mask                      h w 1, uint8
    """

    top: float = 0.0
    left: float = 0.0
    bottom: float = 1.0
    right: float = 1.0
    feather: float = 0.0

    class Out(NamedTuple):
        mask: Image

    def run(self, *, height: int, width: int) -> Out:
        """The mask, blurred where its edge fades."""
        pixels = np.zeros((height, width), np.uint8)
        rows = slice(round(self.top * height), round(self.bottom * height))
        pixels[rows, round(self.left * width) : round(self.right * width)] = 255
        drawn = Pillow.fromarray(pixels)
        if self.feather > 0:
            drawn = drawn.filter(ImageFilter.GaussianBlur(self.feather))
        return self.Out(Image(torch.from_numpy(np.array(drawn))[..., None]))


def frames_of(picture: Image | Video) -> Tensor:
    """Its frames f h w c; a picture is one frame."""
    return picture.frames if isinstance(picture, Video) else picture.pixels[None]


def like(picture: M, frames: Tensor) -> M:
    """Frames as the type of their source: a clip of the same frame rate, or a picture."""
    made: Any = Image(frames[0])
    if isinstance(picture, Video):
        made = Video(frames, picture.fps)
    return made  # type: ignore[no-any-return]  # of the type that came in


def aligned(pictures: Sequence[Image | Video]) -> list[Tensor]:
    """Frames f h w c of each, as many as the longest has; c is 3 where they differ."""
    frames = [frames_of(picture) for picture in pictures]
    count = max(len(f) for f in frames)
    held = [torch.cat([f, f[-1:].expand(count - len(f), -1, -1, -1)]) for f in frames]
    if len({f.shape[-1] for f in held}) > 1:
        held = [f.expand(*f.shape[:-1], 3) if f.shape[-1] == 1 else f[..., :3] for f in held]
    return held


def grid(pictures: Sequence[M], columns: int, gap: int) -> M:
    """Pictures of equal size in rows of so many columns."""
    if not pictures:
        raise UserError("there are no pictures to put side by side", help="connect a list of them")
    frames = aligned(pictures)
    for other in frames[1:]:
        if other.shape != frames[0].shape:
            raise _other_size(frames[0], other)
    count, height, width, channels = frames[0].shape
    rows = -(-len(frames) // columns)
    size = (count, rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = torch.full(size, 255, dtype=torch.uint8, device=frames[0].device)
    for at, one in enumerate(frames):
        y, x = at // columns * (height + gap), at % columns * (width + gap)
        sheet[:, y : y + height, x : x + width] = one
    longest = max(pictures, key=lambda picture: len(frames_of(picture)))
    return like(longest, sheet)


def filtered(picture: M, change: Callable[[Pillow.Image], Pillow.Image]) -> M:
    """The picture with an operation of Pillow applied to every frame, on the host."""
    made = []
    for frame in frames_of(picture):
        grey = frame.shape[-1] == 1
        pixels = to_numpy(frame[..., 0] if grey else frame)
        changed = torch.from_numpy(np.array(change(Pillow.fromarray(pixels))))
        made.append(changed[..., None] if grey else changed)
    return like(picture, torch.stack(made))


def _other_size(one: Tensor, other: Tensor) -> UserError:
    sizes = [f"{x.shape[2]}x{x.shape[1]}" for x in (one, other)]
    return UserError(
        f"pictures have different sizes: {sizes[0]} and {sizes[1]} px",
        help="resize one of them first: {type: pictures.Resize}",
    )
