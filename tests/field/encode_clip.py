"""Clips written by hand, with what cameras and programs write into them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.support.scenes import Array


def colours(frames: int, height: int = 64, width: int = 96) -> Array:
    """Frames of one colour each, which no codec mixes up."""
    shades = np.linspace(20, 235, frames).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (frames, height, width, 3)).copy()


def shades(frames: Array) -> list[int]:
    return [round(float(frame.mean())) for frame in frames]


def encode(
    path: Path,
    frames: Any,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    rate: int = 25,
    options: dict[str, str] | None = None,
    tags: dict[str, Any] | None = None,
    matrix: int | None = None,
    full: bool = False,
    prepare: Any = None,
) -> None:
    """Write a clip by hand. times: in milliseconds. tags: of the codec. matrix, full: of YUV."""
    settings = options if options is not None else {"crf": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w") as file:
        if prepare:
            prepare(file)
        stream = file.add_stream(codec, rate=rate, options=settings)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            layout = "rgba" if pixels.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
            to: dict[str, Any] = {"format": pix_fmt}
            if matrix is not None:
                to["dst_colorspace"] = matrix
            if full:
                to["dst_color_range"] = 2
            frame = frame.reformat(**to)
            if matrix is not None:
                frame.colorspace = matrix
            if full:
                frame.color_range = 2
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), times[index]
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
