"""Plain data that is costly to find out, kept on disk under a digest of what it depends on."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runtime.paths import cache_root

LIBRARIES = ("torch", "diffusers", "transformers")


def library_versions() -> list[str]:
    """Versions of the libraries whose classes decide what a config means."""
    found = []
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def read_entry(folder: str, key: str) -> Any:
    """What is kept under a key; none where nothing is, or where it cannot be read."""
    try:
        return json.loads(_path(folder, key).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_entry(folder: str, key: str, value: Any) -> None:
    """Keep a value, whole or not at all; a cache that cannot be written only costs time."""
    target = _path(folder, key)
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(value, file)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)


def _path(folder: str, key: str) -> Path:
    return cache_root() / folder / f"{key}.json"
