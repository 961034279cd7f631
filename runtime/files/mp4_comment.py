"""Replace the comment of a finished MP4 without encoding again. Imports no torch.

An MP4 is a tree of boxes: 4 bytes of size, 4 of kind, content. The comment is the text of
`moov/udta/meta/ilst/©cmt/data`. Where it grows, so do the boxes around it, and the frames in `mdat`
behind it move: the tables `stco` and `co64` of their places in the file are moved with them.
Kinds and layout: ISO/IEC 14496-12; `ilst`: QuickTime File Format.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runtime.files.atomic_write import atomic_write

COMMENT = b"\xa9cmt"
# Boxes that hold boxes, to the bytes of their own before these.
PARENTS = {
    b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"udta": 0, b"ilst": 0,
    COMMENT: 0, b"meta": 4,
}  # fmt: skip
TEXT_HEAD = 8  # of a data box: what kind of value, and its language
PLACES = {b"stco": ">I", b"co64": ">Q"}


class Box(NamedTuple):
    """A box inside a parent's bytes. start: of its size; content: of what follows its kind."""

    kind: bytes
    start: int
    content: int
    end: int


def replace_mp4_comment(path: Path, text: str) -> bool:
    """Replace the comment; the old file stays until the new one is whole.

    False where there is none to replace, or a table has no room for the places that follow.
    """
    with path.open("rb") as file:
        moov = next((box for box in _top(file) if box.kind == b"moov"), None)
        if moov is None or moov.content - moov.start != 8:
            return False
        file.seek(moov.start)
        old = file.read(moov.end - moov.start)
        made = _with_comment(old, text.encode("utf-8"))
        if made is None or not _move_places(made, moov.end, len(made) - len(old)):
            return False
        with atomic_write(path) as temporary, temporary.open("wb") as out:
            file.seek(0)
            _copy(file, out, moov.start)
            out.write(made)
            file.seek(moov.end)
            shutil.copyfileobj(file, out, 1 << 20)
    return True


def _top(file: BinaryIO) -> Iterator[Box]:
    """The outermost boxes of a file."""
    file.seek(0, 2)
    length, at = file.tell(), 0
    while at + 8 <= length:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:  # the size is in 8 bytes behind the kind
            (size,), head = struct.unpack(">Q", file.read(8)), 16
        end = at + (size or length - at)
        if end < at + head:
            return
        yield Box(kind, at, at + head, end)
        at = end


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[Box]:
    """The boxes between two places."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= end - start:
            return
        yield Box(kind, start, start + 8, start + size)
        start += size


def _walk(data: bytes | bytearray, start: int, end: int) -> Iterator[list[Box]]:
    """Every box in a range, as the way to it from the outermost."""
    for box in _boxes(data, start, end):
        yield [box]
        if box.kind in PARENTS:
            inside = _walk(data, box.content + PARENTS[box.kind], box.end)
            yield from ([box, *way] for way in inside)


def _with_comment(moov: bytes, text: bytes) -> bytearray | None:
    """The moov box with another comment; None where it has none."""
    ways = _walk(moov, 0, len(moov))
    way = next((w for w in ways if [b.kind for b in w[-2:]] == [COMMENT, b"data"]), None)
    if way is None:
        return None
    at = way[-1].content + TEXT_HEAD
    grown = len(text) - (way[-1].end - at)
    made = bytearray(moov[:at] + text + moov[way[-1].end :])
    for box in way:
        struct.pack_into(">I", made, box.start, box.end - box.start + grown)
    return made


def _move_places(moov: bytearray, behind: int, by: int) -> bool:
    """Move the places of all chunks that are `behind` the moov box; false where one does not fit.

    behind  the end of the old moov box, in the file
    """
    for way in [*_walk(moov, 0, len(moov))]:
        box, form = way[-1], PLACES.get(way[-1].kind)
        if form is None:
            continue
        (count,) = struct.unpack_from(">I", moov, box.content + 4)
        for index in range(count):
            at = box.content + 8 + index * struct.calcsize(form)
            (place,) = struct.unpack_from(form, moov, at)
            moved = place + by if place >= behind else place
            if form == ">I" and moved >= 1 << 32:
                return False
            struct.pack_into(form, moov, at, moved)
    return True


def _copy(source: BinaryIO, to: BinaryIO, length: int) -> None:
    while length:
        part = source.read(min(length, 1 << 20))
        if not part:
            return
        to.write(part)
        length -= len(part)
