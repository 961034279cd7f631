"""`sglang nodes`: the nodes that graphs are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence

from runtime import UserError

HELP = """usage: sglang nodes [GROUP | TYPE] [--json]

List the nodes that graphs are made of, by group, with their ports and a line of help. Nodes of
installed plugins are listed too.

  GROUP   only this group: guidance
  TYPE    one node in full, with an example: guidance.ClassifierFree, ./rules.py:Halfway
  --json  a JSON list, for programs

docs/graphs.md says how to write a graph, docs/values.md what travels along its edges."""
USAGE = "sglang nodes [GROUP | TYPE] [--json]"


def nodes(argv: Sequence[str]) -> int:
    """Run the command."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    names = [word for word in argv if not word.startswith("-")]
    unknown = [word for word in argv if word.startswith("-") and word not in {"--json", "--debug"}]
    if unknown or len(names) > 1:
        raise UserError(f"unexpected word `{(unknown or names[1:])[0]}`", help=USAGE)
    from runtime.inspect.node_list import node_page, node_rows, node_table

    name = names[0] if names else ""
    if "." in name or ":" in name:
        print(node_page(name))
        return 0
    rows = node_rows(name)
    print(json.dumps(rows, indent=1, ensure_ascii=False) if "--json" in argv else node_table(rows))
    return 0
