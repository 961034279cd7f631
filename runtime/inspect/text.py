"""Graphs and plans as text and mermaid."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.inspect.rows import ComponentRow, Cost, FieldRow, GraphView, NodeRow, PortRow
from runtime.plan.text import size


def graph_text(view: GraphView) -> str:
    """A graph as a tree: request, components, nodes with their ports and types, outputs."""
    lines = [f"{view.name}: {view.title}"]
    lines += ["request", *(f"  {field_text(field)}" for field in view.request)]
    lines += ["components", *(f"  {_component(row)}" for row in view.components)]
    lines.append("nodes, in data-flow order")
    for node in view.present:
        lines += [f"  {line}" for line in _node(node)]
    lines += ["outputs", *(f"  {name:16} <- {ref}" for name, ref in view.outputs.items())]
    for stage, dropped in view.passes.items():
        if dropped:
            lines += [f"dropped by {stage}", *(f"  {n:16} {why}" for n, why in dropped.items())]
    if view.rewired:
        lines.append("rewired")
        lines += [f"  {p:16} {old} -> {new}" for p, (old, new) in view.rewired.items()]
    if view.took is not None:
        lines.append(f"measured: {duration(view.took)} in nodes")
    return "\n".join(lines)


def measured(view: GraphView) -> list[str]:
    """What the nodes of a measured run took, a line each."""
    costs = [f"  {n.name:16} {cost_text(n.cost)}" for n in view.nodes if n.cost]
    return [f"measured: {duration(view.took or 0)} in nodes", *costs] if costs else []


def field_text(field: FieldRow) -> str:
    """A request field in one line: name, type, value, limits."""
    facts = [field.type]
    if field.value == "required":
        facts.append("required")
    elif field.value:
        facts.append(f"= {field.value}{' ' + field.unit if field.unit else ''}")
    notes = [field.limits] if field.limits else []
    if field.default and field.default != field.value:
        notes.append(f"default {field.default}")
    more = f" ({'; '.join(notes)})" if notes else ""
    return f"{field.name:22} {' '.join(facts)}{more}".rstrip()


def duration(milliseconds: float) -> str:
    """A time as a person reads it: 3.2 ms, 1.54 s."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.1f} ms"


def cost_text(cost: Cost) -> str:
    """What a node took: time, runs if several, memory in use after it and its peak until then."""
    facts = [duration(cost.milliseconds)]
    facts += [f"{cost.runs} runs"] if cost.runs > 1 else []
    facts += [f"{cost.recalled} recalled"] if cost.recalled else []
    if cost.nbytes is not None:
        facts.append(f"{size(cost.nbytes)} in use, peak {size(cost.peak_nbytes)}")
    return ", ".join(facts)


def _component(row: ComponentRow) -> str:
    path = f"path {row.path}" if row.path else ""
    if not row.class_name:
        return f"{row.name:16} {row.role:13} {row.dtype} {path}".rstrip()
    nbytes = size(row.nbytes) if row.nbytes else ""
    facts = f"{row.class_name:28} {row.dtype:9} {nbytes:>9}  {path}"
    return f"{row.name:16} {row.role:13} {facts}".rstrip()


def _node(node: NodeRow) -> Iterator[str]:
    yield f"{node.name}: {node.type}" + (f"  [{node.key[:12]}]" if node.key else "")
    if node.help:
        yield f"    help    {node.help}"
    if node.components:
        needs = (c if c == f else f"{f}: {c}" for f, c in node.components.items())
        yield "    needs   " + ", ".join(needs)
    for parameter, value in node.params.items():
        yield f"    param   {parameter} = {value}"
    for port in node.inputs:
        yield f"    in      {_port(port):34} <- {port.source}"
    for port in node.outputs:
        yield f"    out     {_port(port)}"
    if node.cost:
        yield f"    took    {cost_text(node.cost)}"


def _port(port: PortRow) -> str:
    return f"{port.name}: {port.type}" + (f" [{port.axes}]" if port.axes else "")


def mermaid(view: GraphView) -> str:
    """A graph as a mermaid flowchart, left to right."""
    lines = ["flowchart LR", "    request([request])"]
    for node in view.present:
        needs = ", ".join(node.components.values())
        label = f"<b>{node.name}</b><br/>{node.type}"
        label += f"<br/>{node.help}".replace('"', "'") if node.help else ""
        label += f"<br/><i>{needs}</i>" if needs else ""
        lines.append(f'    {_id(node.name)}["{label}"]')
    for node in view.present:
        arcs: dict[str, list[str]] = {}
        for port in node.inputs:
            source, _, output = port.source.partition(".")
            text = port.name if port.name == output else f"{output} → {port.name}"
            arcs.setdefault(source, []).append(text)
        for source, texts in arcs.items():
            lines.append(f'    {_id(source)} -- "{", ".join(texts)}" --> {_id(node.name)}')
    for name, ref in view.outputs.items():
        lines.append(f"    {_id(ref.partition('.')[0])} --> out_{_id(name)}([{name}])")
    return "\n".join(lines)


def _id(name: str) -> str:
    return name if name == "request" else "n_" + "".join(c if c.isalnum() else "_" for c in name)
