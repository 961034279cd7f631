"""Turn a graph after a pass into rows of plain data for display, without machine paths."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path, PurePath

from runtime.contract.declare import MISSING, Declaration, Port, options, type_name
from runtime.graph.model import Ref
from runtime.graph.parse import WHOLE_PIPELINE
from runtime.graph.roles import component_roles
from runtime.graph.source_positions import display_path, locate
from runtime.inspect.look import Look
from runtime.inspect.rows import ComponentRow, Cost, FieldRow, GraphView, ItemRow, NodeRow, PortRow
from runtime.plan.items import Free, Load, Recall, RunNode
from runtime.plan.plan import Plan
from runtime.plan.planner import bound
from runtime.settings.field import Field, plain_number, show
from runtime.settings.policies import Policies, policy_fields

PRIVATE = {"model", "output", "server", "storage"}
PORT_LINE = re.compile(r"(\w+(?:, \w+)*)\s{2,}(\S.*)")


def describe_graph(look: Look, costs: Mapping[str, Cost] | None = None) -> GraphView:
    """The view of a graph after a pass. costs: of a measured run, by node."""
    graph, left = look.graph, look.after.graph
    reasons = {
        name: f"{stage}: {why}"
        for stage, nodes in look.dropped.items()
        for name, why in nodes.items()
    }
    nodes = tuple(
        _node(look, n, reasons.get(n, ""), (costs or {}).get(n)) for n in look.before.order
    )
    plan = look.plan
    return GraphView(
        name=graph.name,
        title=graph.title,
        stage=look.stage,
        model=portable(look.engine.config.checkpoint.name) if look.engine else "",
        request=tuple(_field(look, f) for f in graph.request.values()),
        components=tuple(_components(look)),
        nodes=nodes,
        outputs={n: str(ref) for n, ref in look.ends.items() if ref.node in left.nodes},
        rewired={port: (str(old), str(new)) for port, (old, new) in look.rewired.items()},
        passes=look.dropped,
        plan=tuple(_items(plan)) if plan else (),
        resident=tuple(sorted(plan.facts.resident)) if plan else (),
        peak_nbytes=plan.peak_bytes if plan else None,
        policies=_policies(look.policies),
        took=sum(c.milliseconds for c in costs.values()) if costs else None,
    )


def portable(path: str) -> str:
    """A path without folders of this machine: relative to here or the package, else its name."""
    near = display_path(Path(path)) if PurePath(path).is_absolute() else path
    return f".../{PurePath(near).name}" if PurePath(near).is_absolute() else near


def limits(field: Field) -> str:
    """The limits of a request field in words: range, step and choices."""
    parts_of_rule = [
        f"at least {plain_number(field.min)}" if field.min is not None else "",
        f"at most {plain_number(field.max)}" if field.max is not None else "",
        f"multiple of {field.multiple}" if field.multiple else "",
        f"plus {field.offset}" if field.offset else "",
        f"one of {', '.join(field.choices)}" if field.choices else "",
    ]
    return ", ".join(x for x in parts_of_rule if x).replace(", plus", " plus")


def port_notes(doc: str) -> dict[str, str]:
    """The text of a docstring for each port: lines `name  text` and the lines indented below."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in doc.splitlines():
        match = PORT_LINE.fullmatch(line)
        if match:
            names = match[1].split(", ")
            found.update(dict.fromkeys(names, match[2]))
        elif line.startswith("  ") and names:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
        else:
            names = []
    return found


def axes(port: Port) -> str:
    """Axes of a port's tensor, or of the tensors inside its value: `tokens b l d, mask b l`."""
    if port.axes:
        return port.axes
    parts = []
    for kind in options(port.type):
        if inspect.isclass(kind) and is_dataclass(kind):
            hints = typing.get_type_hints(kind, include_extras=True)
            for name in kind.__dataclass_fields__:
                parts += [f"{name} {note}" for note in _annotations(hints[name])]
    return ", ".join(dict.fromkeys(parts))


def _annotations(hint: object) -> list[str]:
    own = [str(note) for note in getattr(hint, "__metadata__", ()) if isinstance(note, str)]
    return own + [note for part in typing.get_args(hint) for note in _annotations(part)]


def signature(known: Declaration) -> str:
    """A node's declaration as the source of a class: components, parameters, `run`, outputs."""

    def given(port: Port) -> str:
        return str(port) + ("" if port.default is MISSING else f" = {show(port.default)}")

    outputs = ", ".join(map(str, known.outputs.values()))
    written = inspect.get_annotations(known.cls)
    return "\n".join(
        [
            f"class {known.cls.__name__}:",
            *(f"    {name}: {written.get(name, 'Component')}" for name in known.components),
            *(f"    {given(port)}" for port in known.params.values()),
            "    def run(self, *,",
            *(f"        {given(port)}," for port in known.inputs.values()),
            f"    ) -> Out({outputs})",
        ]
    ).replace("def run(self, *,\n    )", "def run(self)")


def _field(look: Look, field: Field) -> FieldRow:
    value, given = look.values.get(field.name), field.name in look.given
    given = given or field.default is not None
    readers = tuple(
        f"{name}.{port}"
        for name in look.before.order
        for port, ref in look.graph.nodes[name].inputs.items()
        if ref == Ref("request", field.name)
        or (field.type == "seed" and ref == Ref("request", "rng"))
    )
    return FieldRow(
        name=field.name,
        type=field.type + (" list" if field.many else ""),
        value="required" if field.required and not given else _value_text(value),
        unit=field.unit,
        default=_value_text(field.default),
        limits=limits(field),
        help=field.help,
        given=field.name in look.given,
        readers=readers,
    )


def _value_text(value: object) -> str:
    """A value of a request, as text; empty for none."""
    if value is None:
        return ""
    if isinstance(value, str | int | float | bool) or (
        isinstance(value, tuple) and all(isinstance(v, str | int | float) for v in value)
    ):
        listed = value if isinstance(value, tuple) else (value,)
        plain_values = [portable(v) if isinstance(v, str) else v for v in listed]
        return show(plain_values if isinstance(value, tuple) else plain_values[0])
    return show(value) if isinstance(value, Mapping | list | tuple) else type(value).__name__


def _policies(chosen: Policies) -> dict[str, str]:
    """Policies that are not at their defaults, without folders, keys and servers."""
    return {
        f"{group}.{path}": show(value)
        for group, fields in policy_fields().items()
        for path, known in fields.items()
        if group not in PRIVATE
        and (value := getattr(getattr(chosen, group), known.name.split(".")[1])) != known.default
    }


def _components(look: Look) -> Iterator[ComponentRow]:
    graph, users = look.graph, dict[str, list[str]]()
    for name in look.before.order:
        for component in bound(graph.nodes[name], look.before.declarations[name]).values():
            users.setdefault(component, []).append(name)
    model = look.engine.config.checkpoint.name if look.engine else ""
    roles = component_roles(graph)
    for name in dict.fromkeys([*graph.components, *users]):
        spec, fact = graph.components.get(name), look.facts.get(name)
        inside = (model if name == WHOLE_PIPELINE else f"{model}/{name}") if fact and model else ""
        yield ComponentRow(
            name=name,
            class_name=fact.class_name if fact else "",
            dtype=fact.dtype if fact else (spec.dtype or "" if spec else ""),
            nbytes=fact.nbytes if fact else None,
            path=portable(spec.path if spec and spec.path else inside),
            users=tuple(users.get(name, ())),
            identity=fact.variant.identity[:12] if fact else "",
            role=roles.get(name, ""),
        )


def _node(look: Look, name: str, dropped: str, cost: Cost | None) -> NodeRow:
    checked = look.before if dropped else look.after
    node, known = checked.graph.nodes[name], look.before.declarations[name]
    doc = inspect.getdoc(known.cls) or ""
    notes = port_notes(doc)
    inputs = tuple(
        _port(port, notes, look, node.inputs[port.name])
        for port in known.inputs.values()
        if port.name in node.inputs
    )
    place = locate(f"nodes.{name}", look.graph.sources, look.graph.edits)
    file = portable(place.file)
    return NodeRow(
        name=name,
        type=node.type,
        summary=known.summary,
        doc=doc,
        declaration=signature(known),
        file=known.cls.__module__.replace(".", "/") + ".py",
        line=known.line,
        written=f"{file}:{place.line}:{place.column}" if place.line else file,
        inputs=inputs,
        outputs=tuple(_port(port, notes, look) for port in known.outputs.values()),
        params={parameter: show(value) for parameter, value in node.params.items()},
        components={f: c for f, c in bound(node, known).items() if c},
        help=node.help,
        key=look.keys.get(name, ""),
        nbytes=_predicted(look.plan, name),
        dropped=dropped,
        cost=cost,
    )


def _port(port: Port, notes: Mapping[str, str], look: Look, ref: Ref | None = None) -> PortRow:
    asked = look.graph.request.get(ref.port) if ref and ref.node == "request" else None
    stands_in = asked and asked.required and asked.name not in look.given
    value = look.values.get(asked.name) if asked and not stands_in else None
    about = notes.get(port.name, "")
    source = str(ref) if ref else ""
    return PortRow(port.name, type_name(port.type), axes(port), about, source, _value_text(value))


def _predicted(plan: Plan | None, name: str) -> int | None:
    items = plan.items if plan else ()
    return next((i.nbytes for i in items if isinstance(i, RunNode) and i.node == name), None)


def _items(plan: Plan) -> Iterator[ItemRow]:
    held = sum(plan.facts.components[c].nbytes for c in plan.facts.resident)
    for item in plan.items:
        match item:
            case Load():
                held += item.nbytes
                what = f"{item.class_name} {item.dtype}".strip()
                what += ", at its first step" if item.at_call else ""
                yield ItemRow("load", item.component, what, item.nbytes, held)
            case RunNode():
                yield ItemRow("run", item.node, item.type, item.nbytes, held)
            case Recall():
                yield ItemRow("recall", item.node, item.type, None, held)
            case Free():
                yield ItemRow("free", item.node, "", None, held)
