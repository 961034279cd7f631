"""Pictures before they are encoded: their size, and clips of one repeated picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from runtime.contract.values import Image, Video
from runtime.errors import UserError
from runtime.files.image_files import to_numpy


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Stretch a picture to a size, by Lanczos.

    image          h w 3, uint8
    height, width  px of the result

    Source: diffusers 0.42, `VaeImageProcessor.resize` in its default mode, which keeps no ratio.
    """

    sized: ClassVar[tuple[str, ...]] = ("height", "width")

    class Out(NamedTuple):
        image: Image

    def run(self, *, image: Image, height: int, width: int) -> Out:
        return self.Out(Image(resized(image.pixels, height, width)))


@dataclass(frozen=True, kw_only=True)
class RepeatImage:
    """Repeat a picture as the frames of a video.

    image       h w c, uint8
    num_frames  how many times
    fps         frames per second
    video       f h w c, uint8: every frame is the picture
    """

    sized: ClassVar[tuple[str, ...]] = ("num_frames", "fps", "image")

    class Out(NamedTuple):
        video: Video

    def run(self, *, image: Image, num_frames: int, fps: float = 16) -> Out:
        return self.Out(Video(image.pixels.expand(num_frames, -1, -1, -1), fps))


@dataclass(frozen=True, kw_only=True)
class ResizeClip:
    """The first frames of a clip, each stretched to a size.

    video          f h w 3, uint8
    height, width  px of the result
    num_frames     how many; a UserError where the clip has fewer
    fps            frames per second of the result; None keeps those of the clip, or 16 where it
                   states none
    """

    sized: ClassVar[tuple[str, ...]] = ("height", "width", "num_frames", "fps")

    class Out(NamedTuple):
        video: Video
        fps: float

    def run(
        self, *, video: Video, height: int, width: int, num_frames: int, fps: float | None = None
    ) -> Out:
        have = len(video.frames)
        if have < num_frames:
            raise UserError(
                f"`request.num_frames` is {num_frames}, and the clip has {have}",
                help=f"give a longer clip, or ask for {max(1, (have - 1) // 4 * 4 + 1)} frames",
                field="request.num_frames",
            )
        frames = [resized(frame, height, width) for frame in video.frames[:num_frames]]
        rate = fps or video.fps or 16.0
        return self.Out(Video(torch.stack(frames), rate), rate)


def resized(
    pixels: Tensor,
    height: int,
    width: int,
    *,
    by: Pillow.Resampling = Pillow.Resampling.LANCZOS,
) -> Tensor:
    """Pixels `h w 3`, uint8, at another size, on the host."""
    picture = Pillow.fromarray(to_numpy(pixels))
    return torch.from_numpy(np.array(picture.resize((width, height), by)))
