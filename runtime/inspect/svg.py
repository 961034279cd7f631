"""A graph as SVG, left to right: boxes with their ports, a curve per edge, legible light and dark.

Colours are classes that one style sheet explains, so that a page may show the same drawing in its
own. Edges of the request are not drawn, for they would hide all others: boxes tell them in words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from runtime.inspect.layout import Box, BoxPlace, Edge, Layout, lay_out
from runtime.inspect.rows import GraphView, NodeRow, PortRow
from runtime.inspect.text import cost_text
from runtime.plan.text import size

CHAR, LINE, PAD, MARGIN = 7.3, 17.0, 12.0, 24.0  # of the font at 12 px, with some room
TITLE_HEIGHT = 58.0  # of the drawing's title
LONGEST_LINE = 50  # characters of a line; the page shows all
PANEL = 72  # of a line of what is known of a component
COLOURS = 8  # of the style sheet, for the types that travel on edges


@dataclass(frozen=True)
class BoxLine:
    """A line of a box. kind: its class in the style sheet. right: where it is aligned."""

    text: str
    kind: str = ""
    right: bool = False
    port: str = ""
    source: str = ""


@dataclass(frozen=True)
class Figure:
    """A box with its lines, before it has a place. kind: its class in the style sheet."""

    name: str
    kind: str
    lines: tuple[BoxLine, ...]
    note: str = ""

    @property
    def box(self) -> Box:
        """The room that it takes."""
        widest = max(cells(line.text) for line in self.lines)
        height = len(self.lines) * LINE + PAD + (6.0 if self.kind.startswith("node") else 0.0)
        return Box(self.name, widest * CHAR + 2 * PAD, height, self.kind == "panel")

    def offset(self, port: str, *, right: bool) -> float:
        """How far below its top the middle of a port's line is."""
        at = next((i for i, x in enumerate(self.lines) if x.port == port and x.right == right), 0)
        return baseline(at, self.kind) - 4.0


def svg(view: GraphView) -> str:
    """The drawing as a file of its own."""
    return drawing(view, f"<style>{style()}</style>")


def style() -> str:
    """The style sheet of drawings."""
    return resources.files("runtime.inspect").joinpath("svg.css").read_text("utf-8")


def drawing(view: GraphView, inside: str = "") -> str:
    """The drawing as an `svg` element. inside: what stands first in it."""
    made = figures(view)
    arcs = edges(view, {f.name: f for f in made})
    placed = lay_out([f.box for f in made], [edge for edge, _, _ in arcs])
    colours = palette(view)
    curves = [
        curve(points, f"{kind} c{colours.get(type, 0)}", edge)
        for points, (edge, kind, type) in zip(placed.routes, arcs, strict=True)
    ]
    boxes = [figure(f, placed.boxes[f.name], colours) for f in made]
    width, height = _extent(placed, view)
    title = f"{view.name}: {view.title}" if view.title else view.name
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
            f'aria-label="{escape(title)}">',
            inside,
            f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
            f'<text class="title" x="{MARGIN}" y="30">{escape(title)}</text>',
            f'<text class="dim" x="{MARGIN}" y="50">{escape(subtitle(view))}</text>',
            f'<g transform="translate({MARGIN} {TITLE_HEIGHT + MARGIN / 2})">',
            *curves,
            *boxes,
            "</g>",
            "</svg>",
        ]
    )


def subtitle(view: GraphView) -> str:
    """The pass, the model and the totals, in one line."""
    facts = [f"after {view.stage}", f"{len(view.present)} nodes"]
    facts += [view.model] if view.model else []
    if view.peak_nbytes is not None:
        facts.append(f"predicted peak {size(view.peak_nbytes)}")
    if view.took is not None:
        facts.append(f"measured {view.took / 1000:.2f} s in nodes")
    return " · ".join(facts)


def figures(view: GraphView) -> list[Figure]:
    """Every box: request and components first, then nodes in data-flow order, then outputs."""
    request = [BoxLine("request", "name")]
    for field in view.request:
        value = " (required)" if field.value == "required" else f" = {field.value}"
        unit = f" {field.unit}" if field.unit and value != " = " else ""
        text = f"{field.name}{value if field.value else ''}{unit if field.value else ''}"
        request.append(
            BoxLine(cut(text), "given" if field.given else "", port=f"request.{field.name}")
        )
    parts = [BoxLine("components", "name")]
    for row in view.components:
        facts = [row.name, row.class_name, row.dtype, size(row.nbytes) if row.nbytes else ""]
        parts.append(BoxLine(cut("  ".join(filter(None, facts)), PANEL)))
    panels = [Figure("panel request", "panel", tuple(request))]
    panels += [Figure("panel components", "panel", tuple(parts))] if view.components else []
    ends = [
        Figure(f"output {name}", "output", (BoxLine(f"output {name}", port=name),))
        for name in view.outputs
    ]
    return [*panels, *(_node(node) for node in view.nodes), *ends]


def _node(node: NodeRow) -> Figure:
    needs = ", ".join(c if f == c else f"{f}: {c}" for f, c in node.components.items())
    lines = [BoxLine(node.name, "name"), BoxLine(node.type, "dim")]
    lines += [BoxLine(cut(node.help), "help")] if node.help else []
    lines += [BoxLine(cut(needs), "needs")] if needs else []
    asked = [port for port in node.inputs if port.source.startswith("request.")]
    lines += [
        BoxLine(cut(f"{port.name}: {port.type}"), port=port.name, source=port.source)
        for port in node.inputs
        if port not in asked
    ]
    lines += [BoxLine(cut(_from_request(p)), "asked", source=p.source) for p in asked]
    lines += [BoxLine(cut(f"{name} = {value}"), "param") for name, value in node.params.items()]
    lines += [BoxLine(cut(f"{p.name}: {p.type}"), right=True, port=p.name) for p in node.outputs]
    lines += [BoxLine(f"predicted {size(node.nbytes)}", "cost")] if node.nbytes else []
    if node.cost:
        took, *memory = cost_text(node.cost).split(", ", 1)
        lines += [BoxLine(cut(text), "cost") for text in (f"took {took}", *memory)]
    lines += [BoxLine(cut(node.dropped), "why")] if node.dropped else []
    kind = "node dropped" if node.dropped else "node"
    return Figure(f"node {node.name}", kind, tuple(lines), node.summary)


def _from_request(port: PortRow) -> str:
    same = port.source == f"request.{port.name}"
    return f"{port.name} ← {'request' if same else port.source}"


def edges(view: GraphView, figures: Mapping[str, Figure]) -> list[tuple[Edge, str, str]]:
    """Every edge between nodes, and to outputs, with its kind and the type that travels on it."""
    types = {f"{n.name}.{p.name}": p.type for n in view.nodes for p in n.outputs}
    gone = {node.name for node in view.nodes if node.dropped}
    found = []
    for node in view.nodes:
        for port in node.inputs:
            source, _, output = port.source.partition(".")
            if source == "request":
                continue
            kind = "edge rewired" if f"{node.name}.{port.name}" in view.rewired else "edge"
            kind = "edge dropped" if {source, node.name} & gone else kind
            ends = figures[f"node {source}"], figures[f"node {node.name}"]
            found.append((_edge(*ends, output, port.name), kind, types[port.source]))
    for name, ref in view.outputs.items():
        source, _, output = ref.partition(".")
        ends = figures[f"node {source}"], figures[f"output {name}"]
        found.append((_edge(*ends, output, name), "edge", types[ref]))
    return found


def _edge(source: Figure, target: Figure, output: str, port: str) -> Edge:
    leaves, enters = source.offset(output, right=True), target.offset(port, right=False)
    return Edge(source.name, target.name, leaves, enters)


def palette(view: GraphView) -> dict[str, int]:
    """Type to colour, in the order in which they appear."""
    types = dict.fromkeys(port.type for node in view.nodes for port in node.outputs)
    return {name: at % COLOURS for at, name in enumerate(types)}


def curve(points: Sequence[tuple[float, float]], kind: str, edge: Edge) -> str:
    """A smooth line: curves between columns, straight through them."""
    (x, y), parts = points[0], [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for at, (to_x, to_y) in enumerate(points[1:], 1):
        bend = (to_x - x) / 2
        if at % 2:
            parts.append(
                f"C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
            )
        else:
            parts.append(f"L{to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    ends = f'data-from="{escape(edge.source)}" data-to="{escape(edge.target)}"'
    return f'<path class="{kind}" {ends} d="{" ".join(parts)}"/>'


def figure(made: Figure, place: BoxPlace, colours: Mapping[str, int]) -> str:
    """A box with its lines and ports, at its place."""
    focus = ' tabindex="0"' if made.kind.startswith("node") else ""
    parts = [
        f'<g class="{made.kind}" data-box="{escape(made.name)}"{focus} '
        f'transform="translate({place.x:.1f} {place.y:.1f})">',
        f"<title>{escape(made.note)}</title>" if made.note else "",
        f'<rect class="box" width="{place.width:.1f}" height="{place.height:.1f}" rx="6"/>',
    ]
    if made.kind.startswith("node"):
        parts.append(f'<path class="rule" d="M0 {2 * LINE + PAD / 2 + 4} h{place.width:.1f}"/>')
    for at, line in enumerate(made.lines):
        y = baseline(at, made.kind)
        x, anchor = (place.width - PAD, ' text-anchor="end"') if line.right else (PAD, "")
        kind = f' class="{line.kind}"' if line.kind else ""
        asks = f' data-asks="{escape(line.source)}"' if line.source.startswith("request.") else ""
        holds = f' data-field="{escape(line.port)}"' if made.kind == "panel" and line.port else ""
        parts.append(f'<text{kind}{asks}{holds} x="{x:.1f}" y="{y:.1f}"{anchor}>'
                     f"{escape(line.text)}</text>")  # fmt: skip
        if line.port and made.kind != "panel":
            type = line.text.partition(": ")[2]
            parts.append(_mark(line, place.width, y - 4, colours.get(type)))
    return "".join([*parts, "</g>"])


def _mark(line: BoxLine, width: float, y: float, colour: int | None) -> str:
    kind = "port" if colour is None else f"port c{colour}"
    if line.right:
        return f'<circle class="{kind}" cx="{width:.1f}" cy="{y:.1f}" r="3.5"/>'
    return f'<path class="{kind}" d="M-4 {y - 4:.1f} l7 4 l-7 4 z"/>'


def _extent(placed: Layout, view: GraphView) -> tuple[float, float]:
    title = (cells(f"{view.name}: {view.title}") + 4) * CHAR * 1.35
    width = max(placed.width, title, cells(subtitle(view)) * CHAR)
    return width + 2 * MARGIN, placed.height + TITLE_HEIGHT + 2 * MARGIN


def cells(text: str) -> int:
    """How many columns of a fixed-width font a text takes; East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, most: int = LONGEST_LINE) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def baseline(index: int, kind: str) -> float:
    """Where the text of a box's line stands, below its top."""
    rule = 6.0 if kind.startswith("node") and index > 1 else 0.0  # below name and type
    return PAD / 2 + LINE * index + 13.0 + rule
