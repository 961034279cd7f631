"""Folders that the runtime keeps on disk. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """The folder of caches: `$SGLANG_DIFFUSION_CACHE_ROOT`, else one in the user's own."""
    if root := os.environ.get("SGLANG_DIFFUSION_CACHE_ROOT"):
        return Path(root).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "sgl_diffusion"
