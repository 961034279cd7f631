"""The compiler passes between check and plan: small pure functions over a checked graph.

prune drops what a request does not need; fold gives every node a content key and joins equal ones.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from runtime.contract.declare import MISSING, Declaration
from runtime.graph.check import Checked
from runtime.graph.model import NodeSpec, Ref
from runtime.graph.order import ancestors, data_flow_order
from runtime.plan.content_keys import digest


def prune(
    checked: Checked, request: Mapping[str, object], outputs: Mapping[str, Ref]
) -> tuple[Checked, dict[str, Ref], dict[str, str]]:
    """Drop the nodes that the wanted outputs do not need for this request.

    Returns the smaller graph, the outputs' edges in it, and node to reason for what was dropped.
    """
    alias: dict[Ref, Ref] = {}
    dropped: dict[str, str] = {}
    for name in checked.order:
        node, known = checked.graph.nodes[name], checked.declarations[name]
        port = bypassed(node, known, request)
        if port is not None and not _is_empty(_final(node.inputs[port], alias), request):
            (output,) = known.outputs
            alias[Ref(name, output)] = node.inputs[port]
            dropped[name] = f"bypassed: its {output} is `{node.inputs[port]}`"
    nodes = {n: _rewired(s, alias) for n, s in checked.graph.nodes.items()}
    wanted = {name: _final(ref, alias) for name, ref in outputs.items()}
    small = _only(checked, nodes, {ref.node for ref in wanted.values()})
    for name in checked.graph.nodes:
        if name not in small.graph.nodes:
            dropped.setdefault(name, "no requested output needs it")
    return small, wanted, dropped


def _is_empty(ref: Ref, request: Mapping[str, object]) -> bool:
    """Whether an edge brings None, in whose place the node uses its own default."""
    return ref.node == "request" and ref.port in request and request[ref.port] is None


def bypassed(node: NodeSpec, known: Declaration, request: Mapping[str, object]) -> str | None:
    """The input port that stands in for a node on this request, by the node's own `bypass`."""
    rule = getattr(known.cls, "bypass", None)
    if rule is None:
        return None
    arguments = known_arguments(rule, node, known, request)
    port = rule(**arguments) if arguments is not None else None
    return port if port in node.inputs else None


def known_arguments(
    rule: Any, node: NodeSpec, known: Declaration, request: Mapping[str, object]
) -> dict[str, object] | None:
    """Arguments of a pure rule (`bypass`, `estimate`) known before running; None if one is not."""
    parameters = inspect.signature(rule).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        names = [*known.params, *known.inputs]
        return {n: v for n in names if (v := _known(n, node, known, request)) is not MISSING}
    found = {n: _known(n, node, known, request) for n in parameters if n != "self"}
    return None if any(v is MISSING for v in found.values()) else found


def _known(name: str, node: NodeSpec, known: Declaration, request: Mapping[str, object]) -> object:
    if name in known.params:
        return node.params.get(name, known.params[name].default)
    port = known.inputs.get(name)
    if port is None:
        return MISSING
    ref = node.inputs.get(name)
    if ref is None:
        return port.default
    value = request.get(ref.port) if ref.node == "request" and ref.port in request else MISSING
    return port.default if value is None and not port.required else value


def _final(ref: Ref, alias: Mapping[Ref, Ref]) -> Ref:
    while ref in alias:
        ref = alias[ref]
    return ref


def _rewired(node: NodeSpec, alias: Mapping[Ref, Ref]) -> NodeSpec:
    inputs = {port: _final(ref, alias) for port, ref in node.inputs.items()}
    return node if inputs == node.inputs else dataclasses.replace(node, inputs=inputs)


def _only(checked: Checked, nodes: Mapping[str, NodeSpec], wanted: set[str]) -> Checked:
    """The part of a graph that `wanted` nodes need, in data-flow order."""
    graph = dataclasses.replace(checked.graph, nodes=nodes)
    keep = ancestors(graph, wanted & set(nodes))
    order = tuple(n for n in data_flow_order(graph) if n in keep)
    graph = dataclasses.replace(graph, nodes={n: s for n, s in nodes.items() if n in keep})
    return Checked(graph, {n: checked.declarations[n] for n in keep}, order)


def fold(
    checked: Checked, request_keys: Mapping[str, str], identities: Mapping[str, str]
) -> tuple[Checked, dict[str, str], dict[Ref, Ref]]:
    """Content keys, and one node in place of several with an equal key.

    request_keys  digest of each request port; inner keys come from their producers
    identities    component to a digest of its content, dtype and whatever changes its numbers

    Returns the graph, node to key, and edges of joined nodes to those that stand for them.
    """
    keys: dict[str, str] = {}
    first: dict[str, str] = {}
    alias: dict[Ref, Ref] = {}
    for name in checked.order:
        node, known = _rewired(checked.graph.nodes[name], alias), checked.declarations[name]
        keys[name] = _key(node, known, keys, request_keys, identities)
        stand_in = first.setdefault(keys[name], name)
        if stand_in != name:
            alias |= {Ref(name, out): Ref(stand_in, out) for out in known.outputs}
    nodes = {n: _rewired(s, alias) for n, s in checked.graph.nodes.items()}
    return _only(checked, nodes, set(first.values())), keys, alias


def _key(
    node: NodeSpec,
    known: Declaration,
    keys: Mapping[str, str],
    request_keys: Mapping[str, str],
    identities: Mapping[str, str],
) -> str:
    inputs = {
        port: request_keys[ref.port] if ref.node == "request" else f"{keys[ref.node]}.{ref.port}"
        for port, ref in sorted(node.inputs.items())
    }
    bound = {f: identities.get(node.components.get(f, f), "") for f in sorted(known.components)}
    return digest([node.type, known.digest, sorted(node.params.items()), bound, inputs])
