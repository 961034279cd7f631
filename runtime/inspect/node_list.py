"""The nodes that there are: a line for each, and one in full with an example from a graph."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from runtime.contract.declare import (
    MISSING,
    Declaration,
    Port,
    UnknownType,
    accepts,
    declaration,
    type_name,
)
from runtime.contract.denoising import Denoiser, Schedule
from runtime.contract.node_file import declaration_of_file
from runtime.contract.values import Image, Latents, Rng, TextEmbeds, Video
from runtime.errors import UserError, did_you_mean
from runtime.graph import catalog
from runtime.graph.adapt import entry_type
from runtime.graph.node_files import FILE_TYPE
from runtime.inspect.describe import signature
from runtime.inspect.node_schema import declared

# A type, and the edge or literal that graphs give it.
EXAMPLE_VALUES: tuple[tuple[Any, Any], ...] = (
    (Denoiser, "guided.denoiser"), (Latents, "denoise.latents"), (TextEmbeds, "positive.embeds"),
    (Schedule, "schedule.schedule"), (Rng, "request.rng"), (Video, "decode.video"),
    (Image, "decode.image"), (str, "request.prompt"), (int, 64), (float, 1.0),
)  # fmt: skip


def node_rows(group: str = "") -> list[dict[str, object]]:
    """Every node as plain data, sorted by group; group: of these only."""
    known, _ = declared()
    rows = [_row(type, node) for type, node in sorted(known.items())]
    groups = dict.fromkeys(row["group"] for row in rows)
    if group and group not in groups:
        raise UserError(
            f"there is no group of nodes `{group}`",
            help=did_you_mean(group, [*groups, *known]) or f"there are: {', '.join(groups)}",
        )
    return [row for row in rows if group in {"", row["group"]}]


def node_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Nodes by group: type, ports, and what each is for."""
    lines: list[str] = []
    group = None
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            lines += ["", f"{group}: {row['about_group']}"]
        takes = ", ".join([*row["inputs"], *row["params"]])
        lines.append(f"  {row['type']} ({takes}) -> {', '.join(row['outputs'])}")
        lines.append(f"      {row['summary']}")
    return "\n".join(lines[1:])


def node_page(type: str) -> str:
    """One node: its declaration, its docstring, where a graph uses it."""
    try:
        match = FILE_TYPE.fullmatch(type)
        known = (
            declaration_of_file(type, Path(match["file"]).expanduser().resolve())
            if match
            else declaration(type)
        )
    except UnknownType as problem:
        raise UserError(f"{problem}", help=problem.help) from None
    graph, example = _example(type, known)
    doc = inspect.getdoc(known.cls) or ""
    lines = [f"{type}: {known.summary}", "", signature(known), ""]
    lines += [*doc.split("\n")[1:], ""] if "\n" in doc else []
    lines += [f"in graph {graph}:" if graph else "in a graph:", f"  {example}"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _row(type: str, known: Declaration) -> dict[str, Any]:
    group = type.rpartition(".")[0]
    module = importlib.import_module(known.cls.__module__)
    about = (inspect.getdoc(module) or "").split("\n")[0]
    return {
        "type": type,
        "group": group,
        "about_group": about,
        "summary": known.summary,
        "components": [*known.components],
        "inputs": [_port(p) for p in known.inputs.values()],
        "params": [_port(p) for p in known.params.values()],
        "outputs": [_port(p) for p in known.outputs.values()],
    }


def _port(port: Port) -> str:
    default = "" if port.default is MISSING else " = ..." if port.default is None else ""
    if port.default is not MISSING and port.default is not None:
        default = f" = {port.default!r}"
    return f"{port.name}: {type_name(port.type)}{default}".replace(" | None = ...", " = none")


def _example(type: str, known: Declaration) -> tuple[str, str]:
    """The shortest use of a node in a graph on the search path, with the graph's name."""
    found = sorted(
        ((len(line), graph, line) for graph, line in _uses(type)), key=lambda use: use[:2]
    )
    if found:
        return found[0][1], found[0][2]
    inputs = {p.name: _source(p) for p in known.inputs.values() if p.required}
    params = {p.name: f"a {type_name(p.type)}" for p in known.params.values() if p.required}
    made = {"type": type, "inputs": inputs} | ({"params": params} if params else {})
    return "", _one_line({known.cls.__name__.lower(): made})


def _source(port: Port) -> object:
    """A usual source of a port: what packaged graphs call the node that gives such a value."""
    inside = entry_type(port)
    if inside is not None:
        return [_source(Port(port.name, inside)), _source(Port(port.name, inside))]
    return next(
        (edge for kind, edge in EXAMPLE_VALUES if accepts(port.type, kind)), f"NODE.{port.name}"
    )


def _uses(type: str) -> Iterator[tuple[str, str]]:
    for entry in catalog.entries().values():
        nodes = catalog.read_yaml(entry.path).get("nodes")
        for name, node in nodes.items() if isinstance(nodes, Mapping) else ():
            if isinstance(node, Mapping) and node.get("type") == type:
                yield entry.name, _one_line({name: node})


def _one_line(entry: Mapping[str, object]) -> str:
    flow: str = yaml.safe_dump(
        dict(entry), default_flow_style=True, sort_keys=False, width=1_000_000
    )
    return flow.strip()[1:-1]
