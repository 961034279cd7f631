"""Numbers as a person reads them."""

from __future__ import annotations


def size(nbytes: int | None) -> str:
    """Bytes as a person reads them: 7.9 MB; empty where unknown."""
    if nbytes is None:
        return ""
    number = float(nbytes)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError
