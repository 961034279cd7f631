"""Notes of nodes on their inputs before they run, such as the truncated words of a prompt.

A node class may declare `notes`, a rule like `bypass` and `estimate`: it takes the inputs that are
known before the run and returns, by input port, sentences without their subject. Tokenizers, which
have no weights, are loaded for it. Notes do not depend on what is computed: they are given for a
truncated prompt even where its embeddings come from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runtime.graph.model import NodeSpec
from runtime.plan.passes import known_arguments
from runtime.plan.plan import Plan
from runtime.plan.planner import bound


def input_notes(
    plan: Plan, request: Mapping[str, object], load: Callable[[str], Any]
) -> tuple[str, ...]:
    """The notes of every node of a plan, each with the request field that it is about.

    load  gives the object of a component without weights
    """
    found: dict[str, None] = {}
    for name in plan.checked.order:
        node, known = plan.checked.graph.nodes[name], plan.checked.declarations[name]
        rule = getattr(known.cls, "notes", None)
        arguments = known_arguments(rule, node, known, request) if rule else None
        if rule is None or arguments is None:
            continue
        made: dict[str, Any] = {}
        for field, component in bound(node, known).items():
            fact = plan.facts.components.get(component)
            made[field] = None if fact is None else fact.handle if fact.nbytes else load(component)
        params = {k: tuple(v) if isinstance(v, list) else v for k, v in node.params.items()}
        wanted = {k: v for k, v in arguments.items() if k not in known.params}
        for port, notes in rule(known.cls(**made, **params), **wanted).items():
            found |= {f"{_subject(node, port)} {note}": None for note in notes}
    return tuple(found)


def _subject(node: NodeSpec, port: str) -> str:
    """The edge of an input, as messages name options."""
    ref = node.inputs.get(port)
    return f"`{ref or f'{node.name}.{port}'}`"
