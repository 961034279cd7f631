"""The request fields of all graphs, from their YAML alone: names of options. Imports no torch.

Nothing is composed or checked here, so that a command line is read in milliseconds, whatever is in
the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime.graph import catalog

Attributes = Mapping[str, Any]


def request_fields(graph: str = "") -> dict[str, list[Attributes]]:
    """What each graph on the search path declares of a field, by the field's name.

    graph  name or file of the graph whose declarations come first; what names no graph adds nothing
    """
    found: dict[str, list[Attributes]] = {}
    for entry in _entries(graph):
        for name, attributes in _declared(entry).items():
            found.setdefault(name, []).append(attributes)
    return found


def fields_of(graph: str) -> frozenset[str]:
    """Names of the fields that a graph declares; of a name or file that is no graph, none."""
    first = next(iter(_entries(graph, alone=True)), None)
    return frozenset(_declared(first)) if first else frozenset()


def _entries(graph: str, *, alone: bool = False) -> Iterator[catalog.Entry]:
    path = Path(graph).expanduser()
    extra = [path.parent.resolve()] if path.suffix == ".yaml" and path.is_file() else []
    entries = catalog.entries(extra)
    first = entries.get(path.stem if extra else graph)
    if first:
        yield first
    if not alone:
        yield from entries.values()


def _declared(entry: catalog.Entry) -> dict[str, Attributes]:
    """The request section of a graph and of what it extends, as far as it has the right shape."""
    merged: dict[str, object] = {}
    for file in catalog.graph_files(entry.path, catalog.folders()):
        section = catalog.read_yaml(file).get("request")
        if isinstance(section, Mapping):
            merged = catalog.merge_maps(merged, section)
    return {str(name): field for name, field in merged.items() if isinstance(field, Mapping)}
