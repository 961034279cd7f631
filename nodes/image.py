"""Pictures before they are encoded: their size, and clips that stand still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from runtime.media import to_numpy
from runtime.values import Image, Video


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Stretch a picture to a size, by Lanczos.

    image          h w 3, uint8
    height, width  px of the result

    Source: diffusers 0.42, `VaeImageProcessor.resize` in its default mode, which keeps no ratio.
    """

    class Out(NamedTuple):
        image: Image

    def run(self, *, image: Image, height: int, width: int) -> Out:
        return self.Out(Image(resized(image.pixels, height, width)))


@dataclass(frozen=True, kw_only=True)
class Still:
    """Show a picture for a while.

    image       h w c, uint8
    num_frames  how many times
    fps         frames per second
    video       f h w c, uint8: every frame is the picture
    """

    class Out(NamedTuple):
        video: Video

    def run(self, *, image: Image, num_frames: int, fps: float = 16) -> Out:
        return self.Out(Video(image.pixels.expand(num_frames, -1, -1, -1), fps))


def resized(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels `h w 3`, uint8, at another size, on the host."""
    picture = Pillow.fromarray(to_numpy(pixels))
    lanczos = Pillow.Resampling.LANCZOS
    return torch.from_numpy(np.array(picture.resize((width, height), lanczos)))
