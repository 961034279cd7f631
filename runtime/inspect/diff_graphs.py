"""Two graphs, or two configurations of one, beside each other: what differs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runtime.inspect.rows import ComponentRow, FieldRow, GraphView
from runtime.plan.text import size

ABSENT_TEXT = "-"
DIFF_SECTIONS = {
    "graph": "graph", "request": "request", "components": "components", "nodes": "nodes",
    "edges": "edges", "parameters": "parameters", "bindings": "components of nodes",
    "outputs": "outputs", "policies": "policies", "passes": "passes",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One difference. name: what differs; one, two: how it is on either side, `-` where absent."""

    section: str
    name: str
    one: str
    two: str


@dataclass(frozen=True)
class Compared:
    """Two sides by name, what differs, and predicted bytes where a model is known.

    nbytes  what it is of to both sides, whether they differ or not
    notes   why something could not be compared
    """

    one: str
    two: str
    changes: tuple[Change, ...]
    nbytes: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...] = ()


def compare_views(one: GraphView, two: GraphView, names: tuple[str, str]) -> Compared:
    """What differs between two graphs after the same pass."""
    alike = bool(one.model) == bool(two.model)
    before, after = facts(one, alike), facts(two, alike)
    changes = tuple(
        Change(section, name, old, new)
        for section in DIFF_SECTIONS
        for name, old, new in _beside(before[section], after[section])
        if old != new
    )
    notes = () if alike else ("components are compared by name: one side has no model",)
    return Compared(*names, changes, bytes_beside(one, two), notes)


def bytes_beside(one: GraphView, two: GraphView) -> dict[str, tuple[str, str]]:
    """Predicted bytes of each load and node of two plans; nothing where neither is planned."""
    if not (one.plan or two.plan):
        return {}
    found = {name: (old, new) for name, old, new in _beside(_sizes(one), _sizes(two))}
    return found | {"peak": (_peak(one), _peak(two))}


def facts(view: GraphView, files: bool = True) -> dict[str, dict[str, str]]:
    """All that may differ, as text: section to name to value. files: what components are made of"""
    found: dict[str, dict[str, str]] = {section: {} for section in DIFF_SECTIONS}
    found["graph"] = {"name": view.name, "title": view.title, "model": view.model or ABSENT_TEXT}
    for field in view.request:
        found["request"] |= dict(_field(field))
    for row in view.components:
        found["components"] |= dict(_component(row)) if files else {row.name: "declared"}
    for node in view.nodes:
        found["nodes"][node.name] = node.type
        found["edges"] |= {f"{node.name}.{p.name}": p.source for p in node.inputs}
        found["parameters"] |= {f"{node.name}.{n}": value for n, value in node.params.items()}
        found["bindings"] |= {f"{node.name}.{f}": c for f, c in node.components.items()}
        found["passes"] |= {node.name: node.dropped or "runs"} if view.passes else {}
    found["outputs"] = dict(view.outputs)
    found["policies"] = dict(view.policies)
    return found


def compared_text(found: Compared) -> str:
    """The differences as a table: name, one side, the other."""
    lines = [f"{found.one}  |  {found.two}"]
    sections = dict.fromkeys([*DIFF_SECTIONS, *(change.section for change in found.changes)])
    for section in sections:
        rows = [change for change in found.changes if change.section == section]
        if rows:
            table = _table((c.name, c.one, c.two) for c in rows)
            lines += [DIFF_SECTIONS.get(section, section), *table]
    if not found.changes:
        lines.append("nothing differs")
    if found.nbytes:
        lines.append("predicted bytes")
        lines += _table((name, *both) for name, both in found.nbytes.items())
    return "\n".join([*lines, *found.notes])


def _table(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    listed = [*rows]
    first, second = (max(len(row[i]) for row in listed) for i in (0, 1))
    wide = min(second, 60)
    return [f"  {a:{first}}  {b:{wide}}  {c}".rstrip() for a, b, c in listed]


def _beside(
    one: Mapping[str, str], two: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:  # fmt: skip
    for name in dict.fromkeys([*one, *two]):
        yield name, one.get(name, ABSENT_TEXT), two.get(name, ABSENT_TEXT)


def _field(field: FieldRow) -> Iterator[tuple[str, str]]:
    unit = f" {field.unit}" if field.unit else ""
    yield field.name, (f"{field.value}{unit}" if field.value else "empty")
    attributes = {"type": field.type, "limits": field.limits, "help": field.help}
    yield from ((f"{field.name} ({what})", value) for what, value in attributes.items() if value)


def _component(row: ComponentRow) -> Iterator[tuple[str, str]]:
    yield row.name, row.class_name or "declared"
    attributes = {"dtype": row.dtype, "path": row.path, "content": row.identity}
    attributes["bytes"] = size(row.nbytes) if row.nbytes else ""
    yield from ((f"{row.name} ({what})", value) for what, value in attributes.items() if value)


def _sizes(view: GraphView) -> dict[str, str]:
    return {
        f"{item.verb} {item.name}": size(item.nbytes) or "unknown"
        for item in view.plan
        if item.verb == "run" or (item.verb == "load" and item.nbytes)
    }


def _peak(view: GraphView) -> str:
    return size(view.peak_nbytes) if view.plan else ABSENT_TEXT
