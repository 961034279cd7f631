"""Node classes in a file beside the graph: `type: ./nodes.py:HStack`. Imports no torch.

Such a file is code. It runs only where it lies in a folder of the user's own (the working directory
or the search path of graphs), or where `model.trust_remote_code` is set.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from runtime.errors import UserError
from runtime.graph import catalog
from runtime.graph.model import Graph, NodeSpec
from runtime.graph.source_positions import display_path, origin

FILE_TYPE = re.compile(r"(?P<file>(?:\.{1,2}|~)?/?[^:]*\.py):(?P<name>[A-Z]\w*)")


def with_files(graph: Graph) -> Graph:
    """The graph whose nodes from files know their file, relative to the graph file naming it."""
    nodes = {name: _with_file(node, graph) for name, node in graph.nodes.items()}
    return dataclasses.replace(graph, nodes=nodes)


def _with_file(node: NodeSpec, graph: Graph) -> NodeSpec:
    match = FILE_TYPE.fullmatch(node.type)
    if not match:
        return node
    index = origin(f"nodes.{node.name}.type", graph.sources, graph.edits)
    named_in_file = 0 <= index < len(graph.sources)
    folder = graph.sources[index].parent if named_in_file else Path.cwd()
    file = (folder / Path(match["file"]).expanduser()).resolve()
    return dataclasses.replace(node, file=file)


def refuse_untrusted(graph: Graph, *, trusted: bool) -> None:
    """Raise UserError for a node file that is not the user's own."""
    here = Path.cwd()
    own = [
        *([here] if here != Path(here.anchor) else []),
        *(p for p in catalog.folders() if p != catalog.packaged("graphs")),
    ]
    for node in graph.nodes.values():
        file = node.file
        if file is None or trusted or any(file.is_relative_to(f.resolve()) for f in own):
            continue
        raise UserError(
            f"node `{node.name}` is code in {display_path(file)}, which is neither in the working "
            f"directory nor on the search path of graphs (`${catalog.SEARCH_PATH_VARIABLE}`)",
            help="read the file; if you trust it, set `model.trust_remote_code=true`",
            field="model.trust_remote_code",
        )


def exists(node: NodeSpec) -> bool:
    """Whether the file of a node can be read."""
    return node.file is not None and os.access(node.file, os.R_OK) and node.file.is_file()
