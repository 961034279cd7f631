"""Composed graphs, kept on disk: Hydra is imported only when a file changed. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.graph import catalog
from runtime.graph.source_positions import shown
from runtime.paths import cache_root


def composed_graph(path: Path, options: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The composed graph of a file and its policy values; equal files give the kept composition."""
    search = (*catalog.folders(), catalog.packaged("conf"))
    kept = cache_root() / "graphs" / f"{_key(path, search, options)}.json"
    try:
        graph, values = json.loads(kept.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        from runtime.graph.compose import compose_graph

        _refuse_policies(catalog.chain(path, search))
        graph, values = compose_graph(path, search, options)
        if _is_plain(path):
            _keep(kept, [graph, values])
    return graph, values


def _refuse_policies(files: Iterable[Path]) -> None:
    """A graph says what is computed; where and how would be overridden without a word."""
    for file in files:
        if "policies" in catalog.read_yaml(file):
            raise UserError(
                f"graph {shown(file)} sets `policies`, which a graph may not",
                help="say them in the call: memo.max_mb=100, or in a --config file", field="graph",
            )  # fmt: skip


def _key(path: Path, search: tuple[Path, ...], options: Mapping[str, str]) -> str:
    """Changes with the content of any file that contributes, and with which files those are."""
    files = [*catalog.chain(path, search), *sorted(catalog.packaged("conf").glob("*/*.yaml"))]
    facts = [(str(f), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]
    said = [str(path.resolve()), facts, sorted(options.items()), version("hydra-core")]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _is_plain(path: Path) -> bool:
    """Whether the files that a graph extends are named so that `_key` finds all of them."""
    names = [n for file in catalog.chain(path, catalog.folders()) for n in catalog.extends(file)]
    return all(isinstance(n, str) and (n == "_self_" or n.isidentifier()) for n in names)


def _keep(path: Path, data: Any) -> None:
    try:
        if json.loads(json.dumps(data)) != data:
            return  # keys that are no text would come back as text
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(data), "utf-8")
        temporary.replace(path)
    except (OSError, TypeError, ValueError):
        return  # a cache that cannot be written (read-only home, odd YAML types) costs only time
