"""A disk cache of composed graphs: Hydra is imported only when a file changed. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runtime.graph import catalog
from runtime.paths import cache_root

# Counts changes of the rules in `syntax`: graphs that passed the older rules are checked again.
SYNTAX_VERSION = 2
PLAIN = re.compile(r"[^\W\d]\w*(/[^\W\d]\w*)*")  # a graph or `_self_`, or a fragment in a folder


def composed_graph(path: Path, options: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The composed graph of a file and its policy values, from the cache where no file changed."""
    search = (*catalog.folders(), catalog.packaged("conf"))
    cache_file = cache_root() / "graphs" / f"{_key(path, search, options)}.json"
    try:
        graph, values = json.loads(cache_file.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        from runtime.graph.compose import compose_graph
        from runtime.graph.syntax import check_syntax

        check_syntax(path, search)
        graph, values = compose_graph(path, search, options)
        if _is_plain(path):
            _write_cache(cache_file, [graph, values])
    return graph, values


def _key(path: Path, search: tuple[Path, ...], options: Mapping[str, str]) -> str:
    """A cache key over the names and contents of all files that contribute."""
    files = [*catalog.graph_files(path, search), *sorted(catalog.packaged("conf").glob("*/*.yaml"))]
    facts = [(str(f), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]
    versions = [SYNTAX_VERSION, version("hydra-core")]
    facts_of_key = [str(path.resolve()), facts, sorted(options.items()), versions]
    return hashlib.sha256(json.dumps(facts_of_key).encode()).hexdigest()[:32]


def _is_plain(path: Path) -> bool:
    """Whether the files that a graph extends are named so that `_key` finds all of them."""
    names = [
        n for file in catalog.graph_files(path, catalog.folders()) for n in catalog.extends(file)
    ]
    return all(isinstance(n, str) and PLAIN.fullmatch(n) for n in names)


def _write_cache(path: Path, data: object) -> None:
    try:
        if json.loads(json.dumps(data)) != data:
            return  # JSON would turn keys that are not text into text
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(data), "utf-8")
        temporary.replace(path)
    except (OSError, TypeError, ValueError):
        return  # no cache (read-only home, a YAML type that JSON lacks): it only takes longer
