"""Graphs and plans as text and mermaid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runtime.check import Checked
from runtime.fields import Field, plain, show
from runtime.graph import Graph, Ref
from runtime.plan import ComponentFacts, Free, Load, Plan, Recall, Run, bound
from runtime.ports import Port, type_name


def size(nbytes: int | None) -> str:
    """Bytes as a person reads them: 7.9 MB; empty where unknown."""
    if nbytes is None:
        return ""
    number = float(nbytes)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def plan_text(plan: Plan) -> str:
    """A plan, one line per item, with predicted bytes and what is resident after each."""
    graph, facts = plan.checked.graph, plan.facts
    runs = sum(isinstance(i, Run) for i in plan.items)
    verb = "node runs" if runs == 1 else "nodes run"
    lines = [f"plan of graph `{graph.name}` on {facts.device}: {runs} {verb}"]
    held = sum(facts.components[c].nbytes for c in facts.resident if c in facts.components)
    if facts.resident:
        lines.append(f"  resident already: {', '.join(sorted(facts.resident))} ({size(held)})")
    for number, item in enumerate(plan.items, 1):
        match item:
            case Load():
                held += item.nbytes
                what = f"{item.class_name} {item.dtype}".strip()
                what += ", at its first step" if item.component in plan.late else ""
                row = ("load", item.component, what, size(item.nbytes) if item.nbytes else "")
            case Run():
                row = ("run", item.node, item.type, size(item.nbytes))
            case Recall():
                row = ("recall", item.node, item.type, "")
            case Free():
                row = ("free", item.node, "", "")
        verb, name, what, cost = row
        tail = f"weights {size(held)}" if verb == "load" and cost else ""
        lines.append(f"{number:4}  {verb:6}  {name:16} {what:44} {cost:>9}  {tail}".rstrip())
    lines += [f"      not run {name:16} {why}" for name, why in plan.dropped.items()]
    silent = sum(isinstance(i, Run) and i.nbytes is None for i in plan.items)
    tell = "node does not tell what it needs" if runs == 1 else "nodes do not tell what they need"
    untold = f"; {silent} of {runs} {tell}" if silent else ""
    least = "at least " if silent else ""
    lines.append(f"predicted peak: {least}{size(plan.peak_bytes)} (weights {size(held)}{untold})")
    return "\n".join(lines)


def graph_text(
    checked: Checked,
    components: Mapping[str, ComponentFacts] | None = None,
    keys: Mapping[str, str] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> str:
    """A graph as a tree: request, components, nodes with their ports and types, outputs."""
    graph = checked.graph
    lines = [f"{graph.name}: {graph.title}"]
    lines += ["request", *(f"  {line}" for line in map(field_text, graph.request.values()))]
    lines += ["components", *(f"  {line}" for line in _components(checked, components or {}))]
    lines.append("nodes, in data-flow order")
    for name in checked.order:
        lines += [f"  {line}" for line in _node(checked, name, (keys or {}).get(name))]
    lines += ["outputs", *(f"  {name:16} <- {ref}" for name, ref in _present(graph).items())]
    if dropped:
        lines += ["dropped", *(f"  {name:16} {why}" for name, why in dropped.items())]
    return "\n".join(lines)


def field_text(field: Field) -> str:
    """A request field in one line: name, type, default, limits."""
    facts = [field.type + (" list" if field.many else "")]
    if field.default is not None:
        facts.append(f"= {show(field.default)}{' ' + field.unit if field.unit else ''}")
    elif field.required:
        facts.append("required")
    limits = [
        f"at least {plain(field.min)}" if field.min is not None else "",
        f"at most {plain(field.max)}" if field.max is not None else "",
        f"multiple of {field.multiple}" if field.multiple else "",
        f"plus {field.offset}" if field.offset else "",
    ]
    said = ", ".join(x for x in limits if x).replace(", plus", " plus")
    return f"{field.name:22} {' '.join(facts)}{f' ({said})' if said else ''}".rstrip()


def _components(checked: Checked, known: Mapping[str, ComponentFacts]) -> Iterator[str]:
    graph = checked.graph
    names = dict.fromkeys(
        [
            *graph.components,
            *(
                c
                for n in checked.order
                for c in bound(graph.nodes[n], checked.declarations[n]).values()
            ),
        ]
    )
    for name in names:
        spec, fact = graph.components.get(name), known.get(name)
        where = f"path {spec.path}" if spec and spec.path else ""
        if fact:
            yield (
                f"{name:16} {fact.class_name:28} {fact.dtype:9} "
                f"{size(fact.nbytes) if fact.nbytes else '':>9}  {where}"
            ).rstrip()
        else:
            yield f"{name:16} {spec.dtype if spec and spec.dtype else ''} {where}".rstrip()


def _node(checked: Checked, name: str, key: str | None) -> Iterator[str]:
    graph: Graph = checked.graph
    node, known = graph.nodes[name], checked.declarations[name]
    yield f"{name}: {node.type}" + (f"  [{key[:12]}]" if key else "")
    if needs := bound(node, known):
        yield "    needs   " + ", ".join(
            c if c == f else f"{f}: {c}" for f, c in needs.items() if c
        )
    for parameter, value in node.params.items():
        yield f"    param   {parameter} = {show(value)}"
    for port in known.inputs.values():
        if ref := node.inputs.get(port.name):
            yield f"    in      {_port(port):34} <- {ref}"
    for port in known.outputs.values():
        yield f"    out     {_port(port)}"


def _port(port: Port) -> str:
    return f"{port.name}: {type_name(port.type)}" + (f" [{port.axes}]" if port.axes else "")


def mermaid(checked: Checked) -> str:
    """A graph as a mermaid flowchart, left to right."""
    graph = checked.graph
    lines = ["flowchart LR", "    request([request])"]
    for name in checked.order:
        needs = ", ".join(bound(graph.nodes[name], checked.declarations[name]).values())
        label = f"<b>{name}</b><br/>{graph.nodes[name].type}" + (
            f"<br/><i>{needs}</i>" if needs else ""
        )
        lines.append(f'    {_id(name)}["{label}"]')
    for name in checked.order:
        arcs: dict[str, list[str]] = {}
        for port, ref in graph.nodes[name].inputs.items():
            text = port if port == ref.port else f"{ref.port} → {port}"
            arcs.setdefault(ref.node, []).append(text)
        for source, texts in arcs.items():
            lines.append(f'    {_id(source)} -- "{", ".join(texts)}" --> {_id(name)}')
    for name, ref in _present(graph).items():
        lines.append(f"    {_id(ref.node)} --> out_{_id(name)}([{name}])")
    return "\n".join(lines)


def _present(graph: Graph) -> dict[str, Ref]:
    """The outputs that are still there after pruning."""
    return {name: ref for name, ref in graph.outputs.items() if ref.node in graph.nodes}


def _id(name: str) -> str:
    return name if name == "request" else "n_" + "".join(c if c.isalnum() else "_" for c in name)
