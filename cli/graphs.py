"""`sglang graphs`: the graphs that can be run, and the checkpoints they serve."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from runtime import Runtime, UserError

HELP = """usage: sglang graphs [--json | --check]

List the graphs on the search path: name, title, the pipeline classes they serve, their file.

  --json    one JSON list, for programs
  --check   check every graph: types, edges, unused parts"""


def graphs(argv: Sequence[str]) -> int:
    """Run the command."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    for word in argv:
        if word not in {"--json", "--check", "--debug"}:
            raise UserError(f"unexpected word `{word}`", help="sglang graphs [--json | --check]")
    rows = Runtime.graphs()
    if "--check" in argv:
        return check(row["name"] for row in rows)
    if "--json" in argv:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:{width}}  {row['title']}")
        served = ", ".join(row["classes"])
        print(f"{'':{width}}  {served + '  ' if served else ''}{row['path']}")
    return 0


def check(names: Iterable[str]) -> int:
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
