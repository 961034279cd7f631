"""Lifetimes: a node's value is needed as long as any value that refers to its tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from runtime.contract.declare import Declaration, options
from runtime.contract.rules import is_lazy
from runtime.graph.check import Checked


def binds_lazily(known: Declaration) -> bool:
    """Whether a node only binds: networks are called later, by the users of its value."""
    return any(is_lazy(kind) for port in known.outputs.values() for kind in options(port.type))


def reads_lazily(known: Declaration) -> bool:
    """Whether a node uses values that others bound, so that its run calls their networks."""
    return any(is_lazy(kind) for port in known.inputs.values() for kind in options(port.type))


def readers(
    checked: Checked, order: Sequence[str], recalled: Collection[str]
) -> Mapping[str, frozenset[str]]:
    """Node to the nodes that must have run before its value is dropped.

    A node that binds keeps what it was made from: its inputs live as long as its own value.
    """
    found: dict[str, set[str]] = {name: set() for name in order}
    for name in reversed(order):
        if name in recalled:
            continue
        later = found[name] if binds_lazily(checked.declarations[name]) else set[str]()
        for ref in checked.graph.nodes[name].inputs.values():
            if ref.node in found:
                found[ref.node] |= {name, *later}
    return {name: frozenset(by) for name, by in found.items()}


def last_reader(order: Sequence[str], by: Mapping[str, Any]) -> dict[str, str]:
    """Node to the last node of the order that needs its value; itself where none does."""
    place = {name: index for index, name in enumerate(order)}
    return {name: max((name, *by[name]), key=place.__getitem__) for name in order}
