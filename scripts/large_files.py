"""Refuse large files: `python3 scripts/large_files.py FILE...`; none: all that git tracks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MOST = 500_000  # bytes
# The demo model, with which the first command of the README draws.
ALLOWED = ("demo/checkpoint/",)


def large(files: Sequence[str]) -> list[str]:
    """The files over the limit that no entry of ALLOWED covers, with their size."""
    sizes = {f: Path(f).stat().st_size for f in files if Path(f).is_file()}
    return [
        f"{f} has {size:,} bytes, at most {MOST:,} are allowed: keep it elsewhere and load it"
        for f, size in sizes.items()
        if size > MOST and not f.startswith(ALLOWED)
    ]


if __name__ == "__main__":
    listed = (
        sys.argv[1:]
        or subprocess.run(
            ["git", "ls-files"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    )
    if found := large(listed):
        sys.exit("\n".join(found))
