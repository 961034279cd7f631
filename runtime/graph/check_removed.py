"""Findings on `null`: it removed an entry that others need, or an entry that does not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from runtime.errors import did_you_mean
from runtime.graph.model import Finding, Graph, Ref
from runtime.graph.typed import TypedGraph

SECTION_NOUNS = {
    "nodes": "node", "request": "request field", "outputs": "output", "components": "component",
    "constants": "constant", "inputs": "input", "params": "parameter",
}  # fmt: skip


class Reader(NamedTuple):
    """A port that reads a removed source. node: empty for an output of the graph."""

    node: str
    port: str

    def __str__(self) -> str:
        return f"`{self.node}.{self.port}`" if self.node else f"output `{self.port}`"


def removed_sources(graph: Graph) -> dict[Ref, list[Reader]]:
    """Removed sources of edges to their readers. That of a whole node is `Ref(node, "*")`."""
    nodes = {p.split(".")[1] for p, was in graph.nulls.items() if was and _is(p, "nodes")}
    fields = {p.split(".")[1] for p, was in graph.nulls.items() if was and _is(p, "request")}
    readers: dict[Ref, list[Reader]] = {}
    edges = [
        (Reader(node.name, port), ref)
        for node in graph.nodes.values()
        for port, ref in node.inputs.items()
    ]
    edges += [(Reader("", name), ref) for name, ref in graph.outputs.items()]
    for reader, ref in edges:
        if ref.node in nodes:
            readers.setdefault(Ref(ref.node, "*"), []).append(reader)
        elif ref.node == "request" and ref.port in fields:
            readers.setdefault(ref, []).append(reader)
    return readers


def _is(path: str, section: str) -> bool:
    return path.startswith(f"{section}.") and path.count(".") == 1


def removal_findings(typed: TypedGraph, removed: Mapping[Ref, list[Reader]]) -> Iterator[Finding]:
    """A finding per removed entry that is needed, and per null that removes nothing."""
    for source, readers in removed.items():
        name = source.port if source.node == "request" else source.node
        section = "request" if source.node == "request" else "nodes"
        yield Finding(
            f"{section}.{name}",
            f"{SECTION_NOUNS[section]} `{name}` is removed here, and still needed by "
            f"{', '.join(map(str, readers))}.",
            _stand_in(typed, readers),
        )
    for path, removes in typed.graph.nulls.items():
        if not removes:
            yield from _removes_nothing(typed, path)


def _stand_in(typed: TypedGraph, readers: Sequence[Reader]) -> str:
    """A help that lists edges which could replace a removed source."""
    for node, port in readers:
        known = typed.declarations.get(node)
        wanted = known.inputs.get(port) if known else None
        if wanted and (fitting := typed.candidates(wanted, node)):
            fitting = fitting.removeprefix("what fits: ")
            return f"keep it, or connect `{node}.{port}` to something else: {fitting}"
    return f"keep it, or remove {', '.join(map(str, readers))} too"


def _removes_nothing(typed: TypedGraph, path: str) -> Iterator[Finding]:
    section, name, *rest = path.split(".")
    graph = typed.graph
    there: dict[str, list[str]] = {
        "nodes": [*graph.nodes], "request": [*graph.request], "outputs": [*graph.outputs],
        "components": _components(typed), "constants": [],
    }  # fmt: skip
    if not rest:
        if section == "components" and name in there["components"]:
            return  # it removes a component that a node would bind by its own name
        what, names = SECTION_NOUNS[section], there[section]
        yield _nothing(path, what, name, names)
        return
    known, node = typed.declarations.get(name), graph.nodes.get(name)
    if known is None or node is None:
        return
    part, port = rest
    ports = {
        "inputs": [*known.inputs, *known.params], "params": [*known.params, *known.inputs],
        "components": [*known.components],
    }[part]  # fmt: skip
    other = "params" if part == "inputs" else "inputs"
    if port not in ports:
        yield _nothing(path, SECTION_NOUNS[part].removesuffix("s"), port, ports)
    elif port in (node.params if part == "inputs" else node.inputs) and part != "components":
        message = f"this removes nothing: `{port}` is given under `{other}`."
        yield Finding(path, message, f"write {other}: {{{port}: null}}")


def _components(typed: TypedGraph) -> list[str]:
    bound = [
        typed.graph.nodes[n].components.get(f, f)
        for n, known in typed.declarations.items()
        for f in known.components
    ]
    return list(dict.fromkeys([*typed.graph.components, *bound]))


def _nothing(path: str, what: str, name: str, names: list[str]) -> Finding:
    listed = f" There are: {', '.join(names)}." if names else ""
    message = f"there is no {what} `{name}` to remove.{listed}"
    return Finding(path, message, did_you_mean(name, names))
