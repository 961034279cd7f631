"""A plan as a timeline in SVG: what is resident and which values live, from when until when.

A column per load, run or recall, as wide as it took where a run was measured; a lane per component
and per node; below them the predicted bytes of each column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from runtime.inspect.rows import Cost, GraphView, ItemRow
from runtime.inspect.text import duration
from runtime.plan.text import size

LABEL, COLUMN, ROW, TOP, CHART = 190.0, 44.0, 22.0, 34.0, 120.0
SPREAD = 900.0  # px that measured times share, beside the least width of each column


@dataclass(frozen=True)
class Lane:
    """A lane: from column `first` to before `last`. kind: its class in the style sheet."""

    name: str
    kind: str
    first: int
    last: int
    note: str


def timeline(view: GraphView) -> str:
    """The timeline of a plan as an `svg` element."""
    columns = [item for item in view.plan if item.verb != "free"]
    edges = _edges(columns, {n.name: n.cost for n in view.nodes if n.cost})
    lanes = list(bars(view))
    width, bottom = edges[-1] + 24, TOP + ROW * len(lanes)
    most = view.peak_nbytes or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph timeline" width="{width:.0f}" '
        f'height="{bottom + CHART:.0f}" viewBox="0 0 {width:.0f} {bottom + CHART:.0f}" role="img" '
        f'aria-label="plan of {escape(view.name)}">',
        f'<rect class="paper" width="{width:.0f}" height="{bottom + CHART:.0f}"/>',
    ]
    for at, item in enumerate(columns):
        middle = (edges[at] + edges[at + 1]) / 2
        parts.append(f'<path class="rule" d="M{edges[at]:.1f} {TOP - 6} V{bottom:.0f}"/>')
        parts.append(f'<text class="dim" text-anchor="middle" x="{middle:.1f}" y="{TOP - 12}">'
                     f"{item.verb}</text>")  # fmt: skip
    for row, bar in enumerate(lanes):
        parts.append(_lane(bar, edges, TOP + ROW * row))
    parts += _memory(columns, edges, bottom + CHART - 24, most)
    return "\n".join([*parts, "</svg>"])


def bars(view: GraphView) -> Iterator[Lane]:
    """A lane per component that is loaded, and per node that runs, in the order of the plan."""
    end = sum(item.verb != "free" for item in view.plan)
    costs = {node.name: node.cost for node in view.nodes}
    yield from (Lane(name, "load", 0, end, "resident already") for name in view.resident)
    at = 0
    freed = {}
    for item in view.plan:
        at += item.verb != "free"
        if item.verb == "free":
            freed[item.name] = at
    at = 0
    for item in view.plan:
        if item.verb == "free":
            continue
        last = end if item.verb == "load" else freed.get(item.name, end)
        cost = costs.get(item.name) if item.verb != "load" else None
        facts = [item.what, size(item.nbytes) if item.nbytes else ""]
        facts += [duration(cost.milliseconds)] if cost else []
        yield Lane(item.name, item.verb, at, last, "  ".join(filter(None, facts)))
        at += 1


def _edges(columns: list[ItemRow], costs: Mapping[str, Cost]) -> list[float]:
    """The x of each column's left side, and of the last one's right side."""
    times = [
        costs[item.name].milliseconds if item.verb != "load" and item.name in costs else 0.0
        for item in columns
    ]
    total, found = sum(times) or 1.0, [LABEL]
    for time in times:
        found.append(found[-1] + COLUMN + SPREAD * time / total * bool(sum(times)))
    return found


def _lane(bar: Lane, edges: list[float], y: float) -> str:
    left, right = edges[bar.first], edges[bar.last]
    width = max(right - left - 3, 3.0)
    return (
        f'<g class="lane {bar.kind}"><title>{escape(f"{bar.name}  {bar.note}")}</title>'
        f'<text x="8" y="{y + 15:.1f}">{escape(bar.name)}</text>'
        f'<rect class="bar" x="{left + 1.5:.1f}" y="{y + 3:.1f}" width="{width:.1f}" '
        f'height="{ROW - 6}" rx="3"/></g>'
    )


def _memory(columns: list[ItemRow], edges: list[float], floor: float, most: int) -> Iterator[str]:
    """Predicted bytes of each column: weights, and above them what its node needs."""
    tall = CHART - 60
    yield f'<text x="8" y="{floor - tall + 10:.1f}">predicted bytes</text>'
    yield f'<text class="dim" x="8" y="{floor - tall + 28:.1f}">peak {escape(size(most))}</text>'
    for at, item in enumerate(columns):
        x, width = edges[at] + 1.5, edges[at + 1] - edges[at] - 3
        heights = [("weights", item.held), ("working", item.nbytes or 0)]
        base = floor
        for kind, nbytes in heights if item.verb != "load" else heights[:1]:
            height = tall * nbytes / most
            base -= height
            yield (
                f'<rect class="{kind}" x="{x:.1f}" y="{base:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"><title>{escape(item.name)}: {kind} {size(nbytes)}</title>'
                "</rect>"
            )
    yield f'<path class="rule" d="M{LABEL} {floor:.1f} H{edges[-1]:.1f}"/>'
