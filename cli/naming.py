"""Names of output files: plain names that cannot lead out of the output folder."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from runtime import UserError

LONGEST_NAME = 150  # characters
LONGEST_BYTES = 200  # of UTF-8: file systems stop at 255, and temporary names need room
RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
)
SUFFIX = re.compile(r"(.+)(\.[A-Za-z][A-Za-z0-9]{1,3})", re.DOTALL)  # not the `.5` of `v1.5`
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


def split_name(name: str) -> tuple[str, str]:
    """Stem and suffix of a file name that a user chose; the suffix may be empty.

    Any other name is refused, not changed.
    """
    flag = f'--output-file-name "{_printable(name)}"'
    if "/" in name or "\\" in name:
        help = "the folder goes in --output-path"
        raise UserError(f"{flag}: a name, not a path", help=help, field="output.file_name")
    matched = SUFFIX.fullmatch(name)
    stem, suffix = (matched[1], matched[2]) if matched else (name, "")
    reason = _refuse(name, stem)
    if reason:
        help = "letters, digits, `-`, `_` and `.` are always fine"
        raise UserError(f"{flag}: {reason}", help=help, field="output.file_name")
    return stem, suffix


def derived_stem(prompt: str, now: datetime, digest: str) -> str:
    """The stem of a file without a given name: words of the prompt, the time, digits of a hash."""
    tail = f"_{now:%Y%m%d-%H%M%S}_{digest[:8]}"
    text = unicodedata.normalize("NFC", prompt[:100])
    text = "".join(c if c.isprintable() or c.isspace() else "_" for c in text)
    words = re.sub(r"[_\s]+", "_", UNSAFE.sub("_", text)).strip("_.- ") or "output"
    return _shortened(words, LONGEST_NAME - len(tail), LONGEST_BYTES - len(tail)) + tail


def numbered(stem: str, index: int, count: int) -> str:
    """The stem of one of several outputs: `_0`, `_1`, ..."""
    return f"{stem}_{index}" if count > 1 else stem


def _refuse(name: str, stem: str) -> str:
    if not name.strip(" ."):
        return "is not a name"
    if not name.isprintable():
        return "has characters that cannot be printed"
    if stem.partition(".")[0].strip().lower() in RESERVED:
        return "is reserved by some systems"
    if name.startswith((".", "-")) or stem != stem.strip() or name.endswith("."):
        return "begins or ends with a character that shells or systems misread"
    if len(name) > LONGEST_NAME or len(name.encode()) > LONGEST_BYTES:
        return f"is too long; {LONGEST_NAME} characters and {LONGEST_BYTES} bytes are the most"
    return ""


def _shortened(text: str, characters: int, size: int) -> str:
    text = text[:characters]
    while len(text.encode()) > size:
        text = text[:-1]
    return text


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode() if not text.isprintable() else text
