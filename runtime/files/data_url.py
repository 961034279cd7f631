"""Data URLs, as people write them, and base64 that was sent without one. Imports no torch."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from runtime.errors import UserError
from runtime.files.content_type import HEAD_BYTES, content_type

DATA_URL = re.compile(r"\s*data:", re.IGNORECASE)
BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]+=*\s*")
SHORTEST_BASE64 = 40  # characters; shorter text is rather a file name
FORM = "write data:image/png;base64,..."


def is_data_url(text: str) -> bool:
    """Whether a text is meant as a data URL."""
    return bool(DATA_URL.match(text))


def data_url_bytes(url: str, label: str) -> bytes:
    """The content of a data URL (RFC 2397), with or without base64.

    Base64 may be wrapped in lines, percent-encoded, without padding or in the URL-safe alphabet.
    The media type that the URL states is not used: the content tells it.

    label  names the data URL in messages
    """
    head, comma, data = url.strip().partition(",")
    if not comma:
        raise UserError(f"{label} is a data URL without a comma", help=FORM)
    content = unquote_to_bytes(data)
    if not re.search(r";\s*base64\s*$", head, re.IGNORECASE):
        return content
    try:
        found = _decoded(content)
    except ValueError as problem:
        raise UserError(
            f"{label} is a damaged data URL: {problem}", help="encode the file in base64 again"
        ) from None
    if not found:
        raise UserError(f"{label} is a data URL without content", help=FORM)
    return found


def is_bare_base64(text: str) -> bool:
    """Whether a text is the base64 of a picture or clip without `data:...;base64,` before it."""
    start = text[: 2 * HEAD_BYTES].strip()
    if len(start) < SHORTEST_BASE64 or not BASE64.fullmatch(start):
        return False
    whole_groups = re.sub(r"[\s=]", "", start)
    whole_groups = whole_groups[: len(whole_groups) // 4 * 4]
    try:
        head = _decoded(whole_groups.encode("ascii"))
    except ValueError:
        return False
    return content_type(head[:HEAD_BYTES]).kind in {"picture", "animation", "clip"}


def bare_base64_error(label: str) -> UserError:
    """The error for base64 without the head of a data URL."""
    return UserError(f"{label} is base64 without the head of a data URL", help=FORM)


def shorten_url(url: str) -> str:
    """A data URL as messages show it: its head only."""
    head, _, _ = url.strip().partition(",")
    return f"{head[:60]},..."


def _decoded(data: bytes) -> bytes:
    """Base64 in either alphabet, without regard to white space and padding; ValueError if wrong."""
    compact = b"".join(data.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    if len(compact) % 4 == 1:
        raise ValueError("its base64 is cut off")
    try:
        return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except binascii.Error:
        raise ValueError("it has characters that are not base64") from None
