"""The formats in which a graph is shown; one that draws is imported where it is asked for."""

from __future__ import annotations

import json

from runtime.inspect.rows import Described, plain
from runtime.inspect.text import graph_text, mermaid


def formatted(shown: Described, format: str) -> str:
    """A graph as text, mermaid, dot, svg, html or json."""
    match format:
        case "text":
            return graph_text(shown)
        case "mermaid":
            return mermaid(shown)
        case "dot":
            from runtime.inspect.dot import dot

            return dot(shown)
        case "svg":
            from runtime.inspect.svg import svg

            return svg(shown)
        case "html":
            from runtime.inspect.page import page

            return page(shown)
        case "json":
            return json.dumps(plain(shown), indent=2, ensure_ascii=False)
    raise ValueError(format)
