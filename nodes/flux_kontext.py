"""Sizes of FLUX.1 Kontext: of its input picture and of its result."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import NamedTuple

from nodes.contracts import VAE
from nodes.image import resized
from runtime.contract.declare import Component
from runtime.contract.values import Image
from runtime.errors import UserError

TRAINED_SIZES = (  # height, width
    (1568, 672), (1504, 688), (1456, 720), (1392, 752), (1328, 800), (1248, 832), (1184, 880),
    (1104, 944), (1024, 1024), (944, 1104), (880, 1184), (832, 1248), (800, 1328), (752, 1392),
    (720, 1456), (688, 1504), (672, 1568),
)  # fmt: skip
PATCH = 2  # latent pixels per token side


@dataclass(frozen=True, kw_only=True)
class ResizeToTrainedSize:
    """Resize a picture to the size of the training's input pictures with the nearest ratio.

    image  in: h w 3, uint8, any size; no picture stays no picture

    Source: diffusers 0.42, pipelines/flux/pipeline_flux_kontext.py, `_auto_resize`.
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        image: Image | None

    def run(self, *, image: Image | None = None) -> Out:
        """Compare ratios after rounding to whole tokens, as the reference does."""
        if image is None:
            return self.Out(None)
        side = token_side(self.vae)
        rows, columns = image.pixels.shape[0] // side, image.pixels.shape[1] // side
        if not (rows and columns):
            raise UserError(
                f"`request.image_path` expects a picture of at least {side} x {side} px, got "
                f"{image.pixels.shape[1]} x {image.pixels.shape[0]}",
                help="give a larger picture", field="request.image_path",
            )  # fmt: skip
        ratio = columns / rows
        height, width = min(
            TRAINED_SIZES, key=lambda size: (abs(ratio - size[1] / size[0]), size[1])
        )
        pixels = resized(image.pixels, height // side * side, width // side * side)
        return self.Out(Image(pixels))


@dataclass(frozen=True, kw_only=True)
class SizeOfArea:
    """Choose a size of the model's area; refuse sizes that the reference would change silently.

    image          h w 3, uint8: its aspect ratio holds where height or width is not given
    height, width  px; where one is missing, the nearest size of that ratio, else a square
    max_area       px², to which the reference scales a size before it crops to whole tokens

    Source: diffusers 0.42, pipelines/flux/pipeline_flux_kontext.py, `max_area`.
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        height: int
        width: int

    def run(
        self,
        *,
        max_area: int,
        image: Image | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Out:
        """The size as given or completed; a UserError names two valid sizes."""
        side = token_side(self.vae)
        if height is None or width is None:
            ratio = aspect_ratio(image)
            sizes = [s for s in sizes_of_area(max_area, side) if height in {None, s[0]}]
            sizes = [s for s in sizes if width in {None, s[1]}] or sizes_of_area(max_area, side)
            return self.Out(
                *min(sizes, key=lambda s: (abs(log(s[1] / s[0] / ratio)), -s[0] * s[1]))
            )
        if scaled_size(height, width, max_area, side) == (height, width):
            return self.Out(height, width)
        near = sorted(
            sizes_of_area(max_area, side), key=lambda s: abs(s[1] / s[0] - width / height)
        )[:2]
        options = " or ".join(f"{w} x {h}" for h, w in near)
        raise UserError(
            f"`request.width` x `request.height` expects an area near `max_area` ({max_area} px²), "
            f"got {width} x {height}",
            help=f"the nearest in shape that fit are {options}; or set max_area={height * width}",
            field="request.height",
        )

    def estimate(
        self, *, height: int | None, width: int | None, max_area: int, image: Image | None
    ) -> int:
        """No bytes; an invalid size is refused here, before anything is loaded."""
        self.run(height=height, width=width, max_area=max_area, image=image)
        return 0


def aspect_ratio(image: Image | None) -> float:
    """Width to height of a picture; 1 without one."""
    return 1.0 if image is None else image.pixels.shape[1] / image.pixels.shape[0]


def token_side(vae: VAE) -> int:
    """Pixels per side of a token."""
    return int(PATCH * 2 ** (len(vae.config.block_out_channels) - 1))


def scaled_size(height: int, width: int, area: int, side: int) -> tuple[int, int]:
    """Height and width of about `area` with the same ratio, rounded down to multiples of `side`."""
    ratio = width / height
    rows, columns = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
    return rows // side * side, columns // side * side


def sizes_of_area(area: int, side: int) -> list[tuple[int, int]]:
    """Sizes (height, width) that scaling to the area does not change."""
    widths = range(side, area // side + 1, side)
    sizes = [
        (area // w // side * side + d, w) for w in widths for d in range(-2 * side, side + 1, side)
    ]
    return [size for size in sizes if size[0] > 0 and scaled_size(*size, area, side) == size]
