"""A clip that was just written, looked at again: size, frames and rate by its own index."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

GIF_EXTENSION, GIF_DELAY, GIF_END = 0x21, 0xF9, 0x3B  # of the GIF89a specification


class WrongFile(ValueError):
    """A file does not hold what was written to it; it is deleted."""


def check_written(
    path: Path, suffix: str, size: tuple[int, int], count: int, rate: Fraction
) -> None:
    """Raise WrongFile where a clip's index states another size, length or rate.

    size   rows and columns in px
    count  frames that were written; GIF and WebP store equal frames once, so that of these only
           the length in time is compared
    rate   frames per second
    """
    if suffix == ".mp4":
        found, wanted = _mp4(path), f"{count} frames of {size[1]}x{size[0]} at {rate}/s"
    else:
        rows, columns, ticks = _gif(path) if suffix == ".gif" else _webp(path)
        per_second = 100 if suffix == ".gif" else 1000
        length = round(count * per_second / rate) if ticks else 0  # without times it is a picture
        found = f"{columns}x{rows} for {ticks}/{per_second} s"
        wanted = f"{size[1]}x{size[0]} for {length}/{per_second} s"
    if found != wanted:
        raise WrongFile(f"the {suffix[1:].upper()} holds {found}, and {wanted} was written")


def _mp4(path: Path) -> str:
    """Frames, size and rate of the video track."""
    import av

    with av.open(str(path), format="mp4") as file:
        track = file.streams.video[0]
        return f"{track.frames} frames of {track.width}x{track.height} at {track.average_rate}/s"


def _webp(path: Path) -> tuple[int, int, int]:
    """Rows, columns and length in ms: the sum of what its frames (ANMF) state."""
    from PIL import Image

    length = 0
    with Image.open(path, formats=("WEBP",)) as image:
        columns, rows = image.size
    with path.open("rb") as file:
        at, end = 12, path.stat().st_size
        while at + 8 <= end:
            file.seek(at)
            head = file.read(23)
            if head[:4] == b"ANMF":
                length += int.from_bytes(head[20:23], "little")
            at += 8 + (int.from_bytes(head[4:8], "little") + 1) // 2 * 2
    return rows, columns, length


def _gif(path: Path) -> tuple[int, int, int]:
    """Rows, columns and length in 1/100 s: the sum of the delays of its frames."""
    data, length = path.read_bytes(), 0
    columns, rows = (int.from_bytes(data[i : i + 2], "little") for i in (6, 8))
    at = 13 + _palette(data[10])
    while data[at] != GIF_END:
        if data[at] == GIF_EXTENSION:
            if data[at + 1] == GIF_DELAY:
                length += int.from_bytes(data[at + 4 : at + 6], "little")
            at += 2
        else:  # an image: its place and size, a palette, and the bits of its codes
            at += 10 + _palette(data[at + 9]) + 1
        while data[at]:  # blocks, each after a byte with its length
            at += data[at] + 1
        at += 1
    return rows, columns, length


def _palette(flags: int) -> int:
    """Bytes of the palette that follows."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
