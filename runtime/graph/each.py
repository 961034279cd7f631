"""Repeat a node for each entry of a list: `each: {prompt: [a cat, a dog]}`.

A pass on plain data, before anything is parsed. Node `shot` becomes `shot/1`, `shot/2` and so on;
a node that reads `shot.image` gets the list of all their images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.graph.model import Finding
from runtime.settings.field import show


def unroll(data: Mapping[str, Any], found: list[Finding]) -> dict[str, object]:
    """The graph with a node per entry in place of each node that has `each`."""
    nodes = data.get("nodes")
    if not isinstance(nodes, Mapping):
        return dict(data)
    counts: dict[str, int] = {}
    unrolled: dict[str, object] = {}
    for name, node in nodes.items():
        if not isinstance(node, Mapping) or node.get("each") is None:
            unrolled[name] = _without(node)
            continue
        copies = _copies(str(name), node, found)
        counts[str(name)] = len(copies)
        unrolled |= copies
    if not counts:
        return {**data, "nodes": unrolled}
    unrolled = {name: _with_lists(node, counts) for name, node in unrolled.items()}
    outputs = data.get("outputs")
    for name, edge in outputs.items() if isinstance(outputs, Mapping) else ():
        node, _, port = str(edge).partition(".")
        if node in counts:
            found.append(
                Finding(
                    f"outputs.{name}",
                    f"`{edge}` is a list of {counts[node]}, and an output is one value.",
                    f"name one, `{node}/1.{port}`, or join them in a node such as pictures.Grid",
                )
            )
    single = {n: e for n, e in (outputs or {}).items() if str(e).partition(".")[0] not in counts}
    return {**data, "nodes": unrolled, "outputs": single or outputs}


def _without(node: object) -> Any:
    """A node whose `each` was removed by null."""
    return {k: v for k, v in node.items() if k != "each"} if isinstance(node, Mapping) else node


def _copies(name: str, node: Mapping[str, object], found: list[Finding]) -> dict[str, object]:
    """One node per entry; the lists of `each` have equal lengths."""
    path, each = f"nodes.{name}.each", node["each"]
    example = "each: {prompt: [a cat, a dog]}"
    lists = each if isinstance(each, Mapping) else {}
    for port, values in lists.items():
        if not isinstance(values, list) or not values:
            message = f"expects a list that the graph writes down, found {show(values)}"
            found.append(Finding(f"{path}.{port}", message, example))
            lists = {}
    if not isinstance(each, Mapping) or not each:
        found.append(Finding(path, f"expects a map of lists, found {show(each)}", example))
    lengths = {port: len(values) for port, values in lists.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{p}` has {n}" for p, n in lengths.items())
        found.append(Finding(path, f"its lists have different lengths: {listed}."))
    count = min(lengths.values(), default=1)
    rest = _without(node)
    inputs = rest.get("inputs") or {}
    return {
        f"{name}/{i + 1}": {**rest, "inputs": {**inputs, **{p: v[i] for p, v in lists.items()}}}
        for i in range(count)
    }


def _with_lists(node: object, counts: Mapping[str, int]) -> object:
    """A node whose edges from repeated nodes are lists of edges."""
    if not isinstance(node, Mapping) or not isinstance(node.get("inputs"), Mapping):
        return node
    inputs = {}
    for port, edge in node["inputs"].items():
        if isinstance(edge, list):
            inputs[port] = [e for entry in edge for e in _edges(entry, counts)]
        else:
            edges = _edges(edge, counts)
            inputs[port] = edges if edges != [edge] else edge
    return {**node, "inputs": inputs}


def _edges(edge: object, counts: Mapping[str, int]) -> list[object]:
    node, _, port = edge.partition(".") if isinstance(edge, str) else ("", "", "")
    return [f"{node}/{i + 1}.{port}" for i in range(counts[node])] if node in counts else [edge]
