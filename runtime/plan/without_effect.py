"""Request options that change nothing in a run, each with the reason: a note, not an error.

An option has no effect where the run is the same without it: where the content keys of the wanted
outputs stay as they are when the option has its default. A node class may declare in `ignores`
which of its inputs it does not use under the request and the configs that it is bound to.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace

from runtime.graph.check import Checked
from runtime.graph.model import Ref
from runtime.plan.items import Facts
from runtime.plan.passes import bypassed, fold, known_arguments, prune
from runtime.plan.planner import by_its_rule
from runtime.settings.field import Field, show

NOT_NEEDED = "no requested output depends on it"


def without_effect(
    checked: Checked, request: Mapping[str, object], outputs: Mapping[str, Ref], facts: Facts
) -> tuple[str, ...]:
    """A sentence for each option of a complete request that was given and changes nothing."""
    changed = [f for n, f in checked.graph.request.items() if _is_option(f, request.get(n))]
    if not changed:
        return ()
    given = _keys(checked, request, outputs, facts)
    notes = []
    for field in changed:
        without = {**request, field.name: field.default}
        if _keys(checked, without, outputs, facts, field.name) == given:
            reason = next(_reasons(checked, request, facts, field.name), NOT_NEEDED)
            notes.append(f"`request.{field.name}` has no effect: {reason}")
    return tuple(notes)


def _is_option(field: Field, value: object) -> bool:
    """Whether the request gives a value for an optional field."""
    return not field.required and field.type != "seed" and not _equal(value, field.default)


def _equal(value: object, default: object) -> bool:
    if isinstance(value, tuple) and isinstance(default, list | tuple):
        return list(value) == list(default)
    if value is None or default is None or isinstance(value, str | int | float):
        return bool(value is default or value == default)
    return value is default  # pixels are not compared


def _keys(
    checked: Checked,
    request: Mapping[str, object],
    outputs: Mapping[str, Ref],
    facts: Facts,
    defaulted: str = "",
) -> list[str]:
    """Content keys of the wanted outputs. defaulted: a field that has its default here."""
    small, wanted, _ = prune(checked, request, outputs)
    small = _without_ignored(small, request, facts)
    identities = {n: c.variant.digest for n, c in facts.components.items()}
    request_keys = {**facts.request_keys, defaulted: "default"}
    _, keys, _ = fold(small, request_keys, identities)
    return [
        f"{request_keys[ref.port] if ref.node == 'request' else keys[ref.node]}.{ref.port}"
        for ref in wanted.values()
    ]


def _ignored(checked: Checked, request: Mapping[str, object], facts: Facts) -> dict[Ref, str]:
    """Inputs that nodes do not use, as node and port, each with the reason."""
    found: dict[Ref, str] = {}
    for name, node in checked.graph.nodes.items():
        rule = by_its_rule("ignores", node, checked.declarations[name], request, facts)
        found |= {Ref(name, port): reason for port, reason in (rule or {}).items()}
    return found


def _without_ignored(checked: Checked, request: Mapping[str, object], facts: Facts) -> Checked:
    """The graph without the edges to inputs that are not used; for comparison, not to be run."""
    ignored = _ignored(checked, request, facts)
    nodes = {
        name: replace(
            node, inputs={p: r for p, r in node.inputs.items() if Ref(name, p) not in ignored}
        )
        for name, node in checked.graph.nodes.items()
    }
    return replace(checked, graph=replace(checked.graph, nodes=nodes))


def _reasons(
    checked: Checked, request: Mapping[str, object], facts: Facts, field: str
) -> Iterator[str]:
    """Why a field reaches no output: nodes on its way that are bypassed, inputs not used."""
    ignored = _ignored(checked, request, facts)
    todo, seen = [Ref("request", field)], set[str]()
    while todo:
        value = todo.pop(0)
        for name, node in checked.graph.nodes.items():
            for port in (p for p, ref in node.inputs.items() if ref == value):
                if Ref(name, port) in ignored:
                    yield ignored[Ref(name, port)]
                elif bypassed(node, checked.declarations[name], request) not in {None, port}:
                    yield _of_bypass(checked, name, request)
                elif name not in seen:
                    seen.add(name)
                    todo += [Ref(name, out) for out in checked.declarations[name].outputs]


def _of_bypass(checked: Checked, name: str, request: Mapping[str, object]) -> str:
    """A sentence on a node's `bypass`, with the options that decided it."""
    node, known = checked.graph.nodes[name], checked.declarations[name]
    rule = known.cls.bypass
    text = (inspect.getdoc(rule) or f"`{name}` is left out").split("\n\n")[0]
    text = " ".join(text.split()).rstrip(".")
    edges = {p: node.inputs.get(p) for p in known_arguments(rule, node, known, request) or {}}
    values = [
        f"`request.{ref.port}` is {show(request[ref.port])}"
        for ref in edges.values()
        if ref is not None and ref.node == "request" and ref.port in request
    ]
    listed = f" ({', '.join(dict.fromkeys(values))})" if values else ""
    return f"{text[:1].lower()}{text[1:]}{listed}"
