"""Check a graph as a whole: cycles, entries that nothing uses, streams with two readers."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.contract.declare import options
from runtime.contract.values import VideoStream
from runtime.graph.model import Finding, Graph, Ref
from runtime.graph.order import ancestors, cycles, has_cycle
from runtime.graph.parse import WHOLE_PIPELINE
from runtime.graph.source_positions import origin
from runtime.graph.typed import TypedGraph


def shape_findings(typed: TypedGraph, incomplete: bool) -> Iterator[Finding]:
    """All of them. incomplete: entries are missing that may use what looks unused."""
    yield from _cycles(typed.graph)
    if incomplete:
        return
    yield from _unused_nodes(typed)
    yield from _unused_fields(typed.graph)
    yield from _streams(typed)
    yield from _unused_components(typed)


def _cycles(graph: Graph) -> Iterator[Finding]:
    """Each cycle with its way round, at the edge to cut."""
    place = {name: i for i, name in enumerate(graph.nodes)}
    for loop in cycles(graph) if has_cycle(graph) else ():
        arcs = [
            (node, port, ref)
            for source, node in zip(loop, [*loop[1:], loop[0]], strict=True)
            for port, ref in graph.nodes[node].inputs.items()
            if ref.node == source
        ]
        way = ", ".join(f"`{ref}` into `{node}.{port}`" for node, port, ref in arcs)

        def last_written(arc: tuple[str, str, Ref]) -> tuple[int, bool]:
            node, port, ref = arc
            path = f"nodes.{node}.inputs.{port}"
            return origin(path, graph.sources, graph.edits), place[ref.node] >= place[node]

        node, port, ref = max(arcs, key=last_written)
        yield Finding(
            f"nodes.{node}.inputs.{port}",
            f"the graph has a cycle: {' -> '.join([*loop, loop[0]])} ({way}).",
            f"cut one edge: `{node}.{port}` reads `{ref}`, which itself needs `{node}`; connect it "
            "to a node that does not",
        )


def _unused_nodes(typed: TypedGraph) -> Iterator[Finding]:
    graph = typed.graph
    wanted = {r.node for r in graph.outputs.values()} & set(graph.nodes)
    used = ancestors(graph, wanted)
    for name in graph.nodes:
        if wanted and name not in used:
            help = f"remove it: {name}: null, or connect it"
            yield Finding(f"nodes.{name}", "no output needs this node.", help)


def _unused_fields(graph: Graph) -> Iterator[Finding]:
    edges = [ref for node in graph.nodes.values() for ref in node.inputs.values()]
    used = {ref.port for ref in edges if ref.node == "request"}
    seeds = [name for name, field in graph.request.items() if field.type == "seed"]
    for name in graph.request:
        if name not in used and not ("rng" in used and name == seeds[0] if seeds else False):
            message = f"no node reads request field `{name}`."
            yield Finding(f"request.{name}", message, f"remove it: {name}: null")


def _unused_components(typed: TypedGraph) -> Iterator[Finding]:
    graph = typed.graph
    bound = {
        node.components.get(field, field)
        for node in graph.nodes.values()
        if (known := typed.declarations.get(node.name))
        for field in known.components
    }
    for name in graph.components if WHOLE_PIPELINE not in bound else ():
        if name not in bound and name not in graph.borrowed and not typed.unknown:
            listed = ", ".join(sorted(bound)) or "none"
            message = f"no node needs component `{name}`. Needed: {listed}."
            yield Finding(f"components.{name}", message, f"remove it: {name}: null")


def _streams(typed: TypedGraph) -> Iterator[Finding]:
    """Streams with two readers, or that are outputs: a stream can be read once only."""
    graph = typed.graph
    edges = [
        (f"nodes.{node.name}.inputs.{port}", ref)
        for node in graph.nodes.values()
        for port, ref in node.inputs.items()
    ]
    edges += [(f"outputs.{name}", ref) for name, ref in graph.outputs.items()]
    readers: dict[Ref, list[str]] = {}
    for path, ref in edges:
        if VideoStream in options(typed.type_of(ref)):
            readers.setdefault(ref, []).append(path)
    for ref, paths in readers.items():
        if len(paths) > 1 or paths[0].startswith("outputs"):
            message = f"`{ref}` is a stream, which one node reads once; also read: {paths[0]}."
            yield Finding(paths[-1], message, "decode to a Video for more readers")
