"""Other graphs for a request field that the chosen graph does not take. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.errors import nearest
from runtime.graph import catalog
from runtime.graph.model import Graph
from runtime.settings.field import PIXELS

MOST_NAMED = 4


def graphs_for_input(graph: Graph, name: str) -> str:
    """Which graphs take a picture or clip under this name, as a help; empty where none does.

    Those that run the same checkpoint come first and alone, since they need nothing else.
    """
    entries = catalog.entries()
    own = entries.get(graph.name)
    takers = [entry for entry in entries.values() if _takes(entry, name)]
    same = [entry.name for entry in takers if own and _shares_checkpoint(own, entry)]
    if same:
        return f"graph `{same[0]}` takes it with the same model: add `graph={same[0]}`"
    if not takers:
        return ""
    likest = nearest(graph.name, (entry.name for entry in takers), cutoff=0, count=MOST_NAMED)
    more = ", ..." if len(takers) > MOST_NAMED else ""
    named = ", ".join(f"`{taker}`" for taker in likest)
    return f"graphs that take it: {named}{more}; `sglang graphs` lists the models of each"


def _takes(entry: catalog.Entry, name: str) -> bool:
    """Whether a graph has a field of this name for a picture or a clip, as its files say."""
    request: dict[str, Any] = {}
    for file in catalog.graph_files(entry.path, catalog.folders()):
        section = catalog.read_yaml(file).get("request")
        request = catalog.merge_maps(request, section if isinstance(section, Mapping) else {})
    field = request.get(name)
    return isinstance(field, Mapping) and field.get("type") in PIXELS


def _shares_checkpoint(one: catalog.Entry, other: catalog.Entry) -> bool:
    """Whether a model of one graph also fits the other."""
    if one.name == other.name:
        return False
    brought = one.checkpoint is not None and one.checkpoint == other.checkpoint
    return brought or bool(set(one.checkpoints) & set(other.checkpoints))
