"""Thumbnail and spritesheet of a video, made from its file on request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
from PIL import Image

MAX_TILES = 16
TILE = 256  # px, the longer side of a tile


def thumbnail(path: Path) -> bytes:
    """The first frame, as WebP."""
    return _encoded(next(_frames(path)), "webp")


def spritesheet(path: Path) -> bytes:
    """Up to 16 frames, evenly spaced, row by row in one JPEG."""
    total = max(_length(path), 1)
    tiles = min(total, MAX_TILES)
    wanted = {round(i * (total - 1) / max(tiles - 1, 1)) for i in range(tiles)}
    chosen = [_small(frame) for index, frame in enumerate(_frames(path)) if index in wanted]
    width, height = chosen[0].size
    columns = math.ceil(math.sqrt(len(chosen)))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(chosen) / columns) * height))
    for index, tile in enumerate(chosen):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return _encoded(sheet, "jpeg")


def frame_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture or a video; None where the file is gone or cannot be read."""
    try:
        if path.suffix.lower() == ".mp4":
            with av.open(str(path)) as file:
                stream = file.streams.video[0]
                return stream.width, stream.height
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, IndexError, av.error.FFmpegError):
        return None


def _frames(path: Path) -> Iterator[Image.Image]:
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield frame.to_image()


def _length(path: Path) -> int:
    """The number of frames: from the header, else counted."""
    with av.open(str(path)) as file:
        count = file.streams.video[0].frames
        return int(count) or sum(1 for _ in file.decode(video=0))


def _small(frame: Image.Image) -> Image.Image:
    small = frame.copy()
    small.thumbnail((TILE, TILE))
    return small


def _encoded(picture: Image.Image, format: str) -> bytes:
    data = BytesIO()
    picture.save(data, format, quality=85)
    return data.getvalue()
