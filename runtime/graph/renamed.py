"""Node types that were renamed: graphs with the old name work, with a note, for one release."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from runtime.errors import UserError


def current_type(type: str) -> str:
    """The name of a node type today: one that was not renamed is returned as it is."""
    package = importlib.import_module("nodes")
    if not hasattr(package, "RENAMED"):  # ComfyUI's root has a nodes.py, for example
        place = getattr(package, "__file__", None) or "another package"
        raise UserError(
            f"the module `nodes` is {place}, which hides the package `nodes` of this runtime",
            help="rename that file, or run the script from another folder",
        )
    renamed: Mapping[str, str] = package.RENAMED
    return renamed.get(type, type)


def renamed_notes(data: Mapping[str, object]) -> Iterator[str]:
    """A note for each node of a composed graph whose type has an old name."""
    nodes = data.get("nodes")
    for name, node in nodes.items() if isinstance(nodes, Mapping) else ():
        old = node.get("type") if isinstance(node, Mapping) else None
        if isinstance(old, str) and (new := current_type(old)) != old:
            yield f"nodes.{name}: the node type `{old}` is now `{new}`; change it in the graph"
