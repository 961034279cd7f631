"""The `Range` header of RFC 9110: a malformed one is ignored, an unsatisfiable one is a 416."""

from __future__ import annotations

import re
from collections.abc import Iterator

RANGE = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
PART = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")
MAX_RANGES = 16  # more are ignored: many small ranges cost more than the whole file


class RangeNotSatisfiable(Exception):
    """No range of the header lies inside the file."""


def valid_range(header: str, size: int) -> str | None:
    """The header reduced to the ranges that lie inside a file of `size` bytes.

    None where the header must be ignored: another unit than bytes, wrong syntax, too many ranges.
    """
    found = RANGE.fullmatch(header.strip())
    parts = [part.strip(" \t") for part in found[1].split(",")] if found else []
    parts = [part for part in parts if part]  # a list in HTTP may have empty elements
    if not parts or len(parts) > MAX_RANGES or not all(map(_is_valid, parts)):
        return None
    inside = list(_satisfiable(parts, size))
    if not inside:
        raise RangeNotSatisfiable
    return "bytes=" + ",".join(inside)


def _is_valid(part: str) -> bool:
    matched = PART.fullmatch(part)
    if matched is None or not (matched[1] or matched[2]):
        return False
    return not (matched[1] and matched[2]) or int(matched[1]) <= int(matched[2])


def _satisfiable(parts: list[str], size: int) -> Iterator[str]:
    for part in parts:
        first, _, last = part.partition("-")
        if first and int(first) < size:
            yield part
        elif not first and int(last) and size:
            yield f"{max(size - int(last), 0)}-"
