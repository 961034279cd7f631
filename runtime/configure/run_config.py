"""The configuration of a session: everything that is decided before a request arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.configure.alternatives import graphs_for_input
from runtime.errors import UserError
from runtime.graph.model import ComponentSpec, Graph
from runtime.settings.common_names import did_you_mean_field
from runtime.settings.field import Field
from runtime.settings.policies import Policies


@dataclass(frozen=True)
class RunConfig:
    """Everything that is decided before a request arrives.

    request  typed values that settings gave; `prompt` and seeds are tuples, one run each
    notes    the choices that were made, with reasons, for a person
    """

    graph: Graph
    checkpoint: Checkpoint
    request: Mapping[str, Any]
    policies: Policies
    notes: tuple[str, ...] = ()


def is_batched(field: Field) -> bool:
    """Whether several values mean several runs."""
    return field.type == "seed" or field.name == "prompt"


def unknown_field(graph: Graph, name: str, label: str) -> UserError:
    """The error for a request field that a graph does not take.

    label  the field as the user wrote it
    """
    known = ", ".join(graph.request)
    return UserError(
        f"{label}: graph `{graph.name}` takes no `{name}`. It takes: {known}.",
        help=graphs_for_input(graph, name) or did_you_mean_field(name, graph.request),
        field=f"request.{name}",
    )


def component(graph: Graph, name: str) -> ComponentSpec:
    """The spec of a component that a node binds; an undeclared one is as the checkpoint says."""
    return graph.components.get(name, ComponentSpec(name))
