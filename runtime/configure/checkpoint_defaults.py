"""Defaults of request fields that the checkpoint's own configs state. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from runtime.checkpoint.checkpoint import ABSENT, Checkpoint
from runtime.graph.model import Graph
from runtime.settings.field import Field


def borrowed(graph: Graph, other: Mapping[str, Field]) -> Graph:
    """The graph whose request fields without a default have that of another's, and its limits."""
    fields = {
        name: dataclasses.replace(field, default=own.default, trained=own.trained)
        if (own := other.get(name)) and own.type == field.type and field.default is None
        else field
        for name, field in graph.request.items()
    }
    return dataclasses.replace(graph, request=fields)


def with_checkpoint_defaults(graph: Graph, checkpoint: Checkpoint) -> Graph:
    """The graph with the checkpoint's values as defaults, where fields name a key (`config`)."""
    fields = {name: _field(field, checkpoint) for name, field in graph.request.items()}
    return graph if fields == graph.request else dataclasses.replace(graph, request=fields)


def _field(field: Field, checkpoint: Checkpoint) -> Field:
    found = checkpoint.lookup(field.config) if field.config else None
    if found is None or found is ABSENT:
        return field
    label = f"`{field.config}` of {checkpoint.name}"
    return dataclasses.replace(field, default=field.parse(found, label))
