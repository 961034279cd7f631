"""Text metadata of media files: inside the file where its format allows it, else in a sidecar.

PNG stores it in the text chunk `Comment`, JPEG and WebP in the Exif tag `UserComment`, MP4 in the
tag `comment`. GIF and `.npy` have a sidecar file NAME.json. The text is ASCII, because JSON escapes
all other characters. Imports no torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from runtime.files.atomic_write import atomic_write

COMMENT_KEY = "Comment"  # PNG's own keyword; MP4 has it in lower case
SOFTWARE, EXIF_IFD, USER_COMMENT = 0x0131, 0x8769, 0x9286
ASCII = b"ASCII\0\0\0"
LONGEST_EXIF = 65_000  # a JPEG segment ends at 65533 bytes
VP8X_EXIF = 0x08
PROVENANCE_KEY = "provenance"
Metadata: TypeAlias = str | Callable[[], str]  # a text, or what gives it as far as it is known


def text_of(metadata: Metadata) -> str:
    """The text as it is by now."""
    return metadata if isinstance(metadata, str) else metadata()


def save_options(suffix: str, text: str) -> dict[str, Any]:
    """Arguments of Pillow's `save` that embed a text; empty if the format or size forbids it."""
    if not text:
        return {}
    if suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text(COMMENT_KEY, text)
        return {"pnginfo": info}
    if suffix == ".webp" or len(text) <= LONGEST_EXIF:
        return {"exif": exif_block(text)}
    return {}


def exif_block(text: str) -> bytes:
    """Encode an Exif block that holds a text as UserComment."""
    from PIL import Image

    block = Image.Exif()
    block[SOFTWARE] = "sglang-graph"
    block.get_ifd(EXIF_IFD)[USER_COMMENT] = ASCII + text.encode("ascii")
    return block.tobytes()


def add_to_webp(path: Path, text: str) -> None:
    """Append an Exif chunk to an animated WebP and set its flag in the file header."""
    if not text:
        return
    block = exif_block(text).removeprefix(b"Exif\0\0")
    with path.open("r+b") as file:
        head = file.read(21)
        if head[8:16] != b"WEBPVP8X":
            raise ValueError(f"{path} is not an extended WebP file")
        file.seek(20)
        file.write(bytes([head[20] | VP8X_EXIF]))
        file.seek(0, 2)
        file.write(b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def sidecar_path(path: Path) -> Path:
    """The path of the sidecar file: `clip.gif.json` for `clip.gif`."""
    return path.with_name(path.name + ".json")


def write_sidecar(path: Path, text: str) -> None:
    """Write the sidecar; with an empty text, delete a sidecar that an earlier run wrote."""
    sidecar = sidecar_path(path)
    if text:
        with atomic_write(sidecar) as temporary:
            temporary.write_text(text + "\n", encoding="ascii")
    elif is_own_sidecar(sidecar):
        sidecar.unlink(missing_ok=True)


def is_own_sidecar(sidecar: Path) -> bool:
    """Whether this package wrote a sidecar file."""
    if not sidecar.is_file():
        return False
    with suppress(OSError, ValueError, RecursionError):
        data = json.loads(sidecar.read_text("utf-8"))
        return isinstance(data, dict) and PROVENANCE_KEY in data
    return False
