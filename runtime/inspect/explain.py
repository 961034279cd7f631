"""Explain an option: which nodes and policies consume it, and which results it changes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Sequence

from runtime.configure.run_config import unknown_field
from runtime.configure.unused import consumed
from runtime.contract.declare import Declaration
from runtime.errors import UserError, did_you_mean
from runtime.graph.parse import COMPONENT
from runtime.inspect.describe import describe_graph
from runtime.inspect.look import Look, look
from runtime.inspect.option_names import Option, options_of
from runtime.inspect.rows import FieldRow, GraphView, NodeRow
from runtime.plan.text import size
from runtime.settings.policies import PRECISION_OF, Policies, policy_fields
from runtime.settings.setting import Setting

RULE_TEXTS = {
    "bypass": "may be left out",
    "estimate": "predicts its bytes from it",
    "verify": "refuses what it cannot run, before anything is loaded",
}
ATTRIBUTES = {
    "role": "what it is for: which policies reach it",
    "class": "another class of its library, such as another scheduler",
    "path": "where its class, config and weights come from",
    "revision": "branch, tag or commit that it is taken from",
    "dtype": "the dtype of its weights",
    "config": "values in place of those of its own config",
    "parts": "the roles of the parts of a whole pipeline",
}


def explain(name: str, settings: Sequence[Setting]) -> str:
    """An option's consumers and effects in the graph that settings choose, as text."""
    seen = look(settings)
    view = describe_graph(seen)
    found = options_of(name, seen.graph, [row.name for row in view.components])
    return "\n".join(line for option in found for line in _option(option, seen, view))


def _option(option: Option, seen: Look, view: GraphView) -> Iterator[str]:
    head, *rest = option.path.split(".")
    flags = f"  ({', '.join(option.flags)})" if option.flags else ""
    yield f"{option.path}{flags}" + (f" = {option.sets}" if option.sets else "")
    if option.help and head != "request":  # the graph has its own help of request fields
        yield f"  {option.help}"
    match head:
        case "request":
            yield from _request(".".join(rest[:1]), seen, view)
        case "components":
            yield from _component(rest, view)
        case "nodes":
            yield from _node(rest, seen, view)
        case "cli":
            yield "  only the command line itself uses it; no node does"
        case _:
            yield from _policy(option.path, view)


def _request(name: str, seen: Look, view: GraphView) -> Iterator[str]:
    field = next((f for f in view.request if f.name == name), None)
    if field is None:
        raise unknown_field(seen.graph, name, f"`request.{name}`")
    yield f"  {field.help or 'the graph has no help for it'}"
    yield f"  {_facts(field)}"
    readers = list(dict.fromkeys(reader.partition(".")[0] for reader in field.readers))
    yield "read by"
    nodes = {node.name: node for node in view.nodes}
    for reader in field.readers:
        node, _, port = reader.partition(".")
        about = next((p.about for p in nodes[node].inputs if p.name == port), "")
        yield f"  {reader:28} {nodes[node].type:28} {about}".rstrip()
    rules = [*_rules(field, readers, seen)]
    if rules:
        yield "decides"
        yield from rules
    yield from _effects(readers, view)


def _facts(field: FieldRow) -> str:
    unit = f" {field.unit}" if field.unit else ""
    facts = [field.type]
    facts += ["required"] if field.value == "required" else []
    if field.value not in {"", "required"}:
        facts.append(f"{field.value}{unit}" + ("" if field.given else " by default"))
    facts += [f"default {field.default}{unit}"] if field.given and field.default else []
    facts += [field.limits] if field.limits else []
    return ", ".join(facts)


def _rules(field: FieldRow, readers: Iterable[str], seen: Look) -> Iterator[str]:
    """Nodes with a rule of their own that asks for this value."""
    ports = [reader.partition(".")[::2] for reader in field.readers]
    for node in readers:
        known = seen.before.declarations[node]
        for rule, effect in RULE_TEXTS.items():
            asked = _asked(known, rule)
            if any(n == node and (port in asked or "**" in asked) for n, port in ports):
                doc = inspect.getdoc(getattr(known.cls, rule)) or ""
                summary = doc.split("\n")[0] if rule == "bypass" else ""
                yield f"  {node:16} {effect}{f': {summary}' if summary else ''}"


def _asked(known: Declaration, rule: str) -> set[str]:
    made = getattr(known.cls, rule, None)
    if made is None:
        return set()
    parameters = inspect.signature(made).parameters.values()
    return {"**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters} - {"self"}


def _component(rest: Sequence[str], view: GraphView) -> Iterator[str]:
    names = [row.name for row in view.components]
    chosen = names if rest[0] == "*" else [rest[0]]
    for row in (r for r in view.components if r.name in chosen):
        nbytes = size(row.nbytes) if row.nbytes else ""
        role = f"role {row.role}" if row.role else ""
        facts = [row.class_name, row.dtype, nbytes, row.path, role]
        yield f"  {row.name}: {'  '.join(filter(None, facts)) or 'as the checkpoint has it'}"
    if rest[0] not in (*names, "*"):
        raise UserError(
            f"graph `{view.name}` has no component `{rest[0]}`. It has: {', '.join(names)}.",
            help=did_you_mean(rest[0], names), field=f"components.{rest[0]}",
        )  # fmt: skip
    attribute = rest[1] if len(rest) > 1 else ""
    if attribute and attribute not in COMPONENT:
        near = did_you_mean(attribute, ATTRIBUTES)
        asked = f"components.{'.'.join(rest)}"
        yield f"  nothing in this version consumes `{asked}`{f'; {near}' if near else ''}"
        return
    if attribute:
        yield f"  {attribute}: {ATTRIBUTES[attribute]}"
    yield from _bound(chosen, view)


def _bound(names: Iterable[str], view: GraphView) -> Iterator[str]:
    users = [
        (node, field)
        for node in view.nodes
        for field, component in node.components.items()
        if component in names
    ]
    yield "bound by"
    yield from (f"  {f'{node.name}.{field}':28} {node.type}" for node, field in users)
    yield from _effects([node.name for node, _ in users], view)


def _node(rest: Sequence[str], seen: Look, view: GraphView) -> Iterator[str]:
    names = [node.name for node in view.nodes]
    node = next((n for n in view.nodes if n.name == rest[0]), None)
    if node is None:
        raise UserError(
            f"graph `{view.name}` has no node `{rest[0]}`. It has: {', '.join(names)}.",
            help=did_you_mean(rest[0], names), field=f"nodes.{rest[0]}",
        )  # fmt: skip
    yield f"  {node.type}: {node.summary}"
    yield f"  written in {node.written}"
    if len(rest) > 2:
        yield f"  {rest[1]}.{rest[2]}: {_port_line(node, rest[1], rest[2], seen)}"
    yield from _effects([node.name], view)


def _port_line(node: NodeRow, section: str, name: str, seen: Look) -> str:
    known = seen.before.declarations[node.name]
    declared: dict[str, Iterable[str]] = {
        "inputs": known.inputs, "params": known.params, "components": known.components,
    }  # fmt: skip
    if section not in declared or name not in declared[section]:
        listed = ", ".join(f"{s}.{n}" for s, names in declared.items() for n in names)
        raise UserError(
            f"{node.type} has no `{section}.{name}`. It has: {listed}.",
            help=did_you_mean(f"{section}.{name}", listed.split(", ")),
            field=f"nodes.{node.name}.{section}.{name}",
        )
    if section == "inputs":
        port = next((p for p in node.inputs if p.name == name), None)
        return f"{known.inputs[name]} <- {port.source if port else 'not connected'}"
    if section == "params":
        return f"{known.params[name]} = {node.params.get(name, known.params[name].default)}"
    return node.components[name]


def _policy(path: str, view: GraphView) -> Iterator[str]:
    group, _, name = path.partition(".")
    fields = policy_fields().get(group, {})
    if name and name not in fields:
        near = did_you_mean(path, (p for p in consumed() if p.startswith(f"{group}.")))
        yield f"  nothing in this version consumes `{path}`{f'; {near}' if near else ''}"
        return
    policy = next((f.default for f in dataclasses.fields(Policies) if f.name == group), None)
    if policy is not None:
        yield f"  policy `{group}`: {(inspect.getdoc(type(policy)) or '').splitlines()[0]}"
    if name and fields[name].help:
        yield f"  {fields[name].help}"
    touched = [row.name for row in view.components if _touches(group, name, row.role)]
    if touched:
        yield from _bound(touched, view)
    elif path == "graph" or group == "model":
        yield "  it chooses the graph or the checkpoint: every node may differ"
    else:
        yield "  no node reads it"


def _touches(group: str, name: str, role: str) -> bool:
    """Whether a policy is for components of a role."""
    if group == "vae":
        return role in {"vae", "pipeline"}
    return group == "precision" and PRECISION_OF.get(role, "") == name != ""


def _effects(nodes: Iterable[str], view: GraphView) -> Iterator[str]:
    """Which nodes run again when these nodes change, which do not, and which outputs differ."""
    changed = set(nodes)
    for node in view.nodes:  # in data-flow order
        if {port.source.partition(".")[0] for port in node.inputs} & changed:
            changed.add(node.name)
    anew = [node.name for node in view.nodes if node.name in changed]
    unchanged = [node.name for node in view.nodes if node.name not in changed]
    ends = [name for name, ref in view.outputs.items() if ref.partition(".")[0] in changed]
    yield "changes"
    yield f"  computed anew    {', '.join(anew) or 'nothing'}"
    yield f"  as before        {', '.join(unchanged) or 'nothing'}"
    yield f"  outputs          {', '.join(ends) or 'none'}"
