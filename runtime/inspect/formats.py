"""The output formats of `visualize`; a drawing module is imported when it is used."""

from __future__ import annotations

import json

from runtime.inspect.rows import GraphView, plain_data
from runtime.inspect.text import graph_text, mermaid


def formatted(view: GraphView, format: str) -> str:
    """A graph as text, mermaid, dot, svg, html or json."""
    match format:
        case "text":
            return graph_text(view)
        case "mermaid":
            return mermaid(view)
        case "dot":
            from runtime.inspect.dot import dot

            return dot(view)
        case "svg":
            from runtime.inspect.svg import svg

            return svg(view)
        case "html":
            from runtime.inspect.page import page

            return page(view)
        case "json":
            return json.dumps(plain_data(view), indent=2, ensure_ascii=False)
    raise ValueError(format)
