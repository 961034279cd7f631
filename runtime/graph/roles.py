"""Roles of the components of a graph: policies name roles, never components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from runtime.graph.model import Graph
from runtime.graph.parse import WHOLE_PIPELINE


def stated_roles(graph: Graph, parts: Iterable[str] = ()) -> dict[str, str]:
    """Component to the role that the graph declares, in the graph's order; empty: none declared.

    parts  of the vanilla pipeline, by their keys in model_index.json, where the graph runs it
    """
    roles = {name: spec.role or "" for name, spec in graph.components.items()}
    whole = graph.components.get(WHOLE_PIPELINE)
    if whole is not None:
        stated = whole.parts or {}
        roles |= {part: roles.get(part) or stated.get(part, "") for part in parts}
    return roles


def component_roles(graph: Graph, parts: Iterable[str] = ()) -> dict[str, str]:
    """Component to its role: the graph's, else that of the Protocol which a node binds it by.

    Imports the node classes. A node that cannot be read adds nothing: `check` reports it.
    """
    from runtime.graph.typed import TypedGraph

    typed = TypedGraph(graph)
    roles = stated_roles(graph, parts)
    for name, known in typed.declarations.items():
        node = typed.graph.nodes[name]
        for field in known.components:
            key = node.components.get(field, field)
            if key not in graph.absent:
                roles[key] = roles.get(key) or known.role(field)
    return roles


def of_role(roles: Mapping[str, str], role: str) -> list[str]:
    """The components that have a role, in order."""
    return [name for name, own in roles.items() if own == role]
