"""How a media file carries a text: in itself where its format can, else in a file beside it.

PNG has a text chunk `Comment`; JPEG and WebP an Exif block with `UserComment`; MP4 a tag `comment`;
GIF and `.npy` a file NAME.json beside them. The text is ASCII: JSON escapes the rest. No torch.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.files.atomic_write import whole

KEY = "Comment"  # PNG's own keyword; MP4 has it in lower case
SOFTWARE, EXIF_IFD, USER_COMMENT = 0x0131, 0x8769, 0x9286
ASCII = b"ASCII\0\0\0"
LONGEST_EXIF = 65_000  # a JPEG segment ends at 65533 bytes
VP8X_EXIF = 0x08
OURS = "provenance"


def options(suffix: str, text: str) -> dict[str, Any]:
    """What Pillow's `save` takes so that a picture carries a text; empty where it cannot."""
    if not text:
        return {}
    if suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text(KEY, text)
        return {"pnginfo": info}
    if suffix == ".webp" or len(text) <= LONGEST_EXIF:
        return {"exif": exif(text)}
    return {}


def exif(text: str) -> bytes:
    """An Exif block with a text as UserComment."""
    from PIL import Image

    block = Image.Exif()
    block[SOFTWARE] = "sglang-graph"
    block.get_ifd(EXIF_IFD)[USER_COMMENT] = ASCII + text.encode("ascii")
    return block.tobytes()


def add_to_webp(path: Path, text: str) -> None:
    """Add the Exif block to an animated WebP: a chunk at its end, and its bit in the header."""
    if not text:
        return
    data = exif(text).removeprefix(b"Exif\0\0")
    with path.open("r+b") as file:
        head = file.read(21)
        if head[8:16] != b"WEBPVP8X":
            raise ValueError(f"{path} is no extended WebP")
        file.seek(20)
        file.write(bytes([head[20] | VP8X_EXIF]))
        file.seek(0, 2)
        file.write(b"EXIF" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def beside(path: Path) -> Path:
    """The file that says what `path` itself cannot: `clip.gif.json`."""
    return path.with_name(path.name + ".json")


def write_beside(path: Path, text: str) -> None:
    """Write the file beside a file; without a text, one of ours from an earlier run goes."""
    side = beside(path)
    if text:
        with whole(side) as temporary:
            temporary.write_text(text + "\n", encoding="ascii")
    elif is_ours(side):
        side.unlink(missing_ok=True)


def is_ours(side: Path) -> bool:
    """Whether a file beside another was written here."""
    if not side.is_file():
        return False
    with suppress(OSError, ValueError, RecursionError):
        said = json.loads(side.read_text("utf-8"))
        return isinstance(said, dict) and OURS in said
    return False
