"""The picture formats that are read: one table for files, URLs, uploads and metadata. No torch."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from runtime.errors import UserError
from runtime.files.content_type import AVIF, HEIC, Content, content_type


@dataclass(frozen=True)
class ImageFormat:
    """A format of picture files.

    name        what Pillow calls it
    suffix      of files that are stored
    media_type  for HTTP
    """

    name: str
    suffix: str
    media_type: str


# Pillow reads more, but some formats start external programs (EPS), and others are hardly tested.
# MPO is a JPEG with further pictures, as phones and 3D cameras write it; the first one is read.
IMAGE_FORMATS: Mapping[str, ImageFormat] = {
    row.name: row
    for row in (
        ImageFormat("PNG", ".png", "image/png"),
        ImageFormat("JPEG", ".jpg", "image/jpeg"),
        ImageFormat("MPO", ".jpg", "image/jpeg"),
        ImageFormat("WEBP", ".webp", "image/webp"),
        ImageFormat("GIF", ".gif", "image/gif"),
        ImageFormat("AVIF", ".avif", "image/avif"),
        ImageFormat("HEIF", ".heic", "image/heic"),
        ImageFormat("TIFF", ".tiff", "image/tiff"),
        ImageFormat("BMP", ".bmp", "image/bmp"),
        ImageFormat("PPM", ".ppm", "image/x-portable-anymap"),
    )
}
ASK_FOR = "give a PNG, JPEG or WebP picture"
# Exceptions of Pillow and FFmpeg on damaged files, found by changing bytes at random.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, RuntimeError),
    *(ArithmeticError, AttributeError, NotImplementedError, struct.error),
)


@cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here: HEIC only where pillow-heif is."""
    from PIL import features

    names = set(IMAGE_FORMATS) - {"MPO"}  # Pillow opens it as JPEG, and names it afterwards
    if not features.check("avif"):
        names.discard("AVIF")
    try:
        import pillow_heif
    except ImportError:
        names.discard("HEIF")
    else:
        pillow_heif.register_heif_opener()
    return tuple(name for name in IMAGE_FORMATS if name in names)


def not_a_picture(label: str, head: bytes) -> UserError:
    """The error for content that is not read as a picture: what it is, and what to do.

    label  names the file or field in the message
    head   first bytes of the content
    """
    content = content_type(head)
    if content == HEIC and "HEIF" not in readable_formats():
        return UserError(
            f"{label} is a HEIC picture, and pillow-heif, which reads it, is not installed",
            help='save it as JPEG or PNG, or install the extra: pip install "sglang-graph[heic]"',
        )
    if content == AVIF and "AVIF" not in readable_formats():
        return UserError(
            f"{label} is an AVIF picture, which this build of Pillow does not read",
            help="save it as JPEG or PNG",
        )
    return UserError(f"{label} {_reason(content)}", help=ASK_FOR)


def _reason(content: Content) -> str:
    if content.kind in {"picture", "animation"}:
        return f"is {content.name} that cannot be decoded"
    if content.kind == "clip":
        return f"is {content.name}, not a picture"
    return f"is {content.name}, which is not a picture format that can be read"
