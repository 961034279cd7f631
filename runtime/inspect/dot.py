"""A graph in the language of Graphviz: `... --format dot | dot -Tpdf`."""

from __future__ import annotations

import json
from html import escape

from runtime.inspect.rows import GraphView, NodeRow, PortRow


def dot(view: GraphView) -> str:
    """A digraph, left to right, each node a table with its ports."""
    lines = [
        f"digraph {_quoted(view.name)} {{",
        f"  label={_quoted(f'{view.name}: {view.title}')}; labelloc=t; fontname=Helvetica;",
        "  rankdir=LR; ranksep=0.8;",
        "  node [shape=plain, fontname=Helvetica, fontsize=10];",
        "  edge [color=gray40, arrowsize=0.6];",
        f"  request [label=<{_request(view)}>];",
    ]
    lines += [f"  {_id(node.name)} [label=<{_table(node)}>];" for node in view.present]
    for node in view.present:
        for port in node.inputs:
            source, _, output = port.source.partition(".")
            style = " [color=gray80]" if source == "request" else ""
            lines.append(f"  {_id(source)}:{_at(output, 'o')}:e -> "
                         f"{_id(node.name)}:{_at(port.name, 'i')}:w{style};")  # fmt: skip
    for name, ref in view.outputs.items():
        source, _, output = ref.partition(".")
        lines.append(f"  {_quoted(f'out {name}')} [label={_quoted(name)}, shape=oval];")
        lines.append(f"  {_id(source)}:{_at(output, 'o')}:e -> {_quoted(f'out {name}')};")
    return "\n".join([*lines, "}"])


def _request(view: GraphView) -> str:
    used = dict.fromkeys(
        port.source.partition(".")[2]
        for node in view.present
        for port in node.inputs
        if port.source.startswith("request.")
    )
    values = {f.name: f" = {f.value}" if f.value else "" for f in view.request}
    values |= {f.name: " (required)" for f in view.request if f.value == "required"}
    rows = "".join(_row(f"{n}{values.get(n, '')}", _at(n, "o"), "RIGHT") for n in used)
    return _framed("<B>request</B>", rows)


def _table(node: NodeRow) -> str:
    needs = ", ".join(node.components.values())
    head = f"<B>{escape(node.name)}</B><BR/>{escape(node.type)}"
    head += f"<BR/>{escape(node.help)}" if node.help else ""
    head += f"<BR/><I>{escape(needs)}</I>" if needs else ""
    params = "".join(_row(f"{n} = {v}", "", "LEFT") for n, v in node.params.items())
    inputs = "".join(_row(_port(p), _at(p.name, "i"), "LEFT") for p in node.inputs)
    outputs = "".join(_row(_port(p), _at(p.name, "o"), "RIGHT") for p in node.outputs)
    return _framed(head, params + inputs + outputs)


def _framed(head: str, rows: str) -> str:
    style = 'BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3"'
    return f'<TABLE {style}><TR><TD BGCOLOR="gray92">{head}</TD></TR>{rows}</TABLE>'


def _row(text: str, port: str, align: str) -> str:
    at = f' PORT="{port}"' if port else ""
    return f'<TR><TD{at} ALIGN="{align}">{escape(text)}</TD></TR>'


def _port(port: PortRow) -> str:
    return f"{port.name}: {port.type}"


def _at(port: str, side: str) -> str:
    return f"{side}_{port.replace('.', '_')}"


def _id(name: str) -> str:
    return name if name == "request" else _quoted(f"n {name}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
