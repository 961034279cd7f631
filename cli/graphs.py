"""`sglang graphs`: the graphs that can be run, and the checkpoints they serve."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime import Runtime, UserError
from runtime.configure.family_table import checkpoints_of, defaults_text, markdown

HELP = """usage: sglang graphs [--json | --markdown | --check | --schema]
       sglang graphs new NAME --from GRAPH [--output DIR]
       sglang graphs verify GRAPH --model-path M [flags]

List the graphs on the search path: name, task, defaults, and the checkpoints that they serve.

  --json      one JSON list, for programs: also titles, components, files
  --markdown  the page docs/families.md
  --check     check every graph: types, edges, unused parts
  --schema    the graph language as JSON Schema, for editors (docs/graphs.md)

`sglang graphs new --help` shows how to start a graph of your own, and
`sglang graphs verify --help` how to compare a graph with diffusers."""
GRAPHS_FLAGS = ("--json", "--markdown", "--check", "--schema", "--debug")


def graphs(argv: Sequence[str]) -> int:
    """Run the command."""
    if argv[:1] == ["new"]:
        from cli.new_graph import new

        return new(argv[1:])
    if argv[:1] == ["verify"]:
        from cli.verify import verify

        return verify(argv[1:])
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    for word in argv:
        if word not in GRAPHS_FLAGS:
            raise UserError(
                f"unexpected word `{word}`",
                help="sglang graphs [--json | --markdown | --check | --schema], or new, verify",
            )
    if "--schema" in argv:
        from runtime.inspect.json_schema import graph_schema

        print(json.dumps(graph_schema(), indent=1, ensure_ascii=False))
        return 0
    rows = Runtime.graphs()
    if "--check" in argv:
        return check_graphs(row["name"] for row in rows)
    if "--json" in argv:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif "--markdown" in argv:
        print(markdown(rows), end="")
    else:
        print(graphs_table(rows))
    return 0


def graphs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The graphs as aligned lines."""
    head = ("GRAPH", "TASK", "DEFAULTS", "SERVES")
    lines = [head]
    for row in rows:
        made = _first_problem(row) or defaults_text(row["defaults"])
        lines.append((row["name"], row["task"], made, ", ".join(checkpoints_of(row))))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        "  ".join([*(f"{cell:{w}}" for cell, w in zip(line, widths, strict=False)), line[3]])
        for line in lines
    )


def _first_problem(row: Mapping[str, Any]) -> str:
    """The place and the message of the first problem of a graph that cannot be composed, or ''."""
    return ": ".join(line.strip() for line in row.get("problem", "").split("\n")[:2])


def check_graphs(names: Iterable[str]) -> int:
    """Check graphs by name: a line each, and every problem of the wrong ones; then exit code 2."""
    wrong = False
    for name in names:
        try:
            Runtime.check_graph(name)
            print(f"{name}: fits")
        except UserError as problem:
            wrong = True
            print(problem, file=sys.stderr)
    return 2 if wrong else 0
