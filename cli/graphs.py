"""`sglang graphs`: the graphs that can be run, and the checkpoints they serve."""

from __future__ import annotations

import json
from collections.abc import Sequence

from runtime import Runtime, UserError

HELP = """usage: sglang graphs [--json]

List the graphs on the search path: name, title, the pipeline classes they serve, their file.

  --json    one JSON list, for programs"""


def graphs(argv: Sequence[str]) -> int:
    """Run the command."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    for word in argv:
        if word not in {"--json", "--debug"}:
            raise UserError(f"unexpected word `{word}`", help="sglang graphs [--json]")
    rows = Runtime.graphs()
    if "--json" in argv:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:{width}}  {row['title']}")
        served = ", ".join(row["classes"])
        print(f"{'':{width}}  {served + '  ' if served else ''}{row['path']}")
    return 0
