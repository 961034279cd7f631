"""Folders that the runtime keeps on disk. Imports no torch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_root() -> Path:
    """The folder of caches: `$SGLANG_DIFFUSION_CACHE_ROOT`, else one in the user's own."""
    if root := os.environ.get("SGLANG_DIFFUSION_CACHE_ROOT"):
        return Path(root).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base).expanduser() if base else Path.home() / ".cache") / "sgl_diffusion"
    except RuntimeError:  # a container's user without a home and without an entry in /etc/passwd
        return Path(tempfile.gettempdir()) / f"sgl_diffusion-{os.getuid()}"
