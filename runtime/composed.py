"""Composed graphs, kept on disk: Hydra is imported only when a file changed. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runtime import catalog
from runtime.identity import cache_root


def composed_graph(path: Path, options: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The composed graph of a file and its policy values; equal files give the kept composition."""
    search = (*catalog.folders(), catalog.packaged("conf"))
    kept = cache_root() / "graphs" / f"{_key(path, search, options)}.json"
    try:
        graph, values = json.loads(kept.read_text("utf-8"))
    except (OSError, ValueError):
        from runtime.compose import compose_graph

        graph, values = compose_graph(path, search, options)
        _keep(kept, [graph, values])
    return graph, values


def _key(path: Path, search: tuple[Path, ...], options: Mapping[str, str]) -> str:
    """Changes with any file that may contribute: name, size and time of every YAML on the path."""
    folders = (path.parent, *search)
    files = sorted({file for folder in folders for file in folder.glob("*.yaml")})
    files += sorted(catalog.packaged("conf").glob("*/*.yaml"))
    facts = [(str(f), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
    said = [str(path.resolve()), facts, sorted(options.items()), version("hydra-core")]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _keep(path: Path, data: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(data), "utf-8")
        temporary.replace(path)
    except (OSError, TypeError, ValueError):
        return  # a cache that cannot be written (read-only home, odd YAML types) costs only time
