"""Dependencies between nodes: data-flow order, ancestors, cycles. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop

from runtime.graph.model import Graph


def needs(graph: Graph) -> dict[str, set[str]]:
    """Node to the nodes that its inputs come from, in written order."""
    return {
        name: {ref.node for ref in node.inputs.values() if ref.node in graph.nodes}
        for name, node in graph.nodes.items()
    }


def ancestors(graph: Graph, roots: Iterable[str]) -> set[str]:
    """The roots and every node that they need."""
    above, found, todo = needs(graph), set[str](), [*roots]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += above[name]
    return found


def data_flow_order(graph: Graph) -> tuple[str, ...]:
    """The nodes in topological order; the order of the file decides where several may come next.

    The graph has no cycle.
    """
    place = {name: i for i, name in enumerate(graph.nodes)}
    sorter = TopologicalSorter(needs(graph))
    sorter.prepare()
    ready = [(place[name], name) for name in sorter.get_ready()]
    order: list[str] = []
    while ready:
        heapify(ready)
        name = heappop(ready)[1]
        order.append(name)
        sorter.done(name)
        ready += [(place[other], other) for other in sorter.get_ready()]
    return tuple(order)


def has_cycle(graph: Graph) -> bool:
    """Whether some node needs itself."""
    try:
        TopologicalSorter(needs(graph)).prepare()
    except CycleError:
        return True
    return False


def cycles(graph: Graph) -> list[list[str]]:
    """Every cycle, each from the node that is written first."""
    import networkx  # importing takes 0.2 s, so only a graph with a cycle does it

    place = {name: i for i, name in enumerate(graph.nodes)}
    arcs = [(above, name) for name, found in needs(graph).items() for above in found]
    loops = []
    for loop in networkx.simple_cycles(networkx.DiGraph(arcs)):
        first = loop.index(min(loop, key=place.__getitem__))
        loops.append([*loop[first:], *loop[:first]])
    return sorted(loops)
