"""From composed data to a `Graph`: constants, repeated nodes, parsing, sub-graphs. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import UserError, did_you_mean
from runtime.graph import catalog
from runtime.graph.compose_cache import composed_graph
from runtime.graph.constants import fill_constants
from runtime.graph.each import unroll
from runtime.graph.model import Finding, Graph
from runtime.graph.node_files import with_files
from runtime.graph.nulls import null_entries
from runtime.graph.parse import parse_sections
from runtime.graph.sub_graphs import expand
from runtime.settings.setting import Setting


def build_graph(
    entry: catalog.Entry,
    data: Mapping[str, object],
    edits: tuple[Setting, ...] = (),
    above: tuple[Path, ...] = (),
) -> Graph:
    """The graph of composed data. above: files of the graphs that this one is a part of."""
    found: list[Finding] = []
    sources = catalog.graph_files(entry.path, catalog.folders())
    nulls = null_entries(data, sources, edits)
    parts = parse_sections(unroll(fill_constants(data, found), found))
    graph = Graph(
        entry.name, parts.title, parts.nodes, parts.request, parts.components, parts.outputs,
        parts.matches, parts.checkpoint, sources, edits, (*found, *parts.findings), parts.absent,
        nulls,
    )  # fmt: skip
    path = entry.path.resolve()
    graph = with_files(graph)
    return expand(graph, parts.graphs, lambda name: _sub_graph(name, path, (*above, path)))


def _sub_graph(name: str, file: Path, above: tuple[Path, ...]) -> Graph:
    """A graph by name on the search path, or by a path beside the file that names it."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = (file.parent / name).resolve()
        if not path.is_file():
            raise UserError(f"there is no file `{name}` beside {file.name}")
        entry = catalog.entries([path.parent])[path.stem]
    else:
        known = catalog.entries([file.parent])
        if name not in known:
            near = did_you_mean(name, known) or f"there are: {', '.join(sorted(known))}"
            raise UserError(f"there is no graph `{name}`", help=near)
        entry = known[name]
    if entry.path.resolve() in above:
        raise UserError(f"graph `{name}` contains itself", help="name another graph")
    data, _ = composed_graph(entry.path, {})
    graph = build_graph(entry, data, (), above)
    if not graph.outputs:
        raise UserError(f"graph `{name}` has no outputs")
    return dataclasses.replace(graph, name=name)
