"""A graph as one HTML page without any other file: the drawing, and all of what is clicked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from runtime.inspect.rows import GraphView, plain_data
from runtime.inspect.svg import drawing, style, subtitle
from runtime.inspect.text import cost_text
from runtime.inspect.timeline import timeline
from runtime.plan.text import size

# Nothing may be fetched, from anywhere: the page is whole.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(view: GraphView) -> str:
    """The page as text."""
    title = escape(f"{view.name}: {view.title}" if view.title else view.name)
    data = json.dumps(plain_data(view), ensure_ascii=False).replace("<", "\\u003c")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{style()}{_own('page.css')}</style></head><body>",
            f"<header><h1>{title}</h1><p>{escape(subtitle(view))}</p>",
            '<span class="zoom"><button id="out" type="button" aria-label="zoom out">-</button>'
            '<button id="fit" type="button">fit</button>'
            '<button id="in" type="button" aria-label="zoom in">+</button></span>'
            '<button id="asks" type="button" aria-pressed="false">request edges</button>'
            '<button id="theme" type="button">light / dark</button></header>',
            f'<main><div id="drawing">{drawing(view)}</div>',
            '<aside id="panel" aria-live="polite" hidden></aside></main>',
            '<p class="hint">Click a node to see its declaration; a request field, to see who '
            "reads it. Drag to move the drawing, turn the wheel with Ctrl to zoom.</p>",
            *sections(view),
            f'<script id="data" type="application/json">{data}</script>',
            f"<script>{_own('page.js')}</script></body></html>",
        ]
    )


def sections(view: GraphView) -> Iterable[str]:
    """What stands below the drawing: request, components, passes, plan, measured times."""
    if view.plan:
        yield f'<section><h2>Plan</h2><div class="wide">{timeline(view)}</div></section>'
    yield html_table(
        "Request",
        ("field", "type", "value", "unit", "limits", "read by", "what it is"),
        [
            (f.name, f.type, f.value, f.unit, f.limits, ", ".join(f.readers), f.help)
            for f in view.request
        ],
    )
    yield html_table(
        "Components",
        ("name", "role", "class", "dtype", "bytes", "path", "used by"),
        [
            (c.name, c.role, c.class_name, c.dtype, size(c.nbytes), c.path, ", ".join(c.users))
            for c in view.components
        ],
    )
    changed = [
        (stage, node, why) for stage, nodes in view.passes.items() for node, why in nodes.items()
    ]
    changed += [("", port, f"{old} → {new}") for port, (old, new) in view.rewired.items()]
    yield html_table("What the passes changed", ("pass", "node or input", "how"), changed)
    costs = [
        (n.name, n.type, cost_text(n.cost), size(n.nbytes)) for n in view.nodes if n.cost
    ]  # fmt: skip
    yield html_table("Measured", ("node", "type", "took", "predicted bytes"), costs)


def html_table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A section with a table; nothing where there are no rows."""
    if not rows:
        return ""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    inside = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<section><h2>{escape(title)}</h2><div class="wide">{inside}</div></section>'


def _own(name: str) -> str:
    return resources.files("runtime.inspect").joinpath(name).read_text("utf-8")
