"""Notes on weights that are a variant's: chosen because a folder has no plain ones. No torch."""

from __future__ import annotations

from contextlib import suppress

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.configure.run_config import component
from runtime.errors import UserError
from runtime.graph.model import Graph
from runtime.graph.parse import WHOLE_PIPELINE


def variant_notes(graph: Graph, checkpoint: Checkpoint) -> list[str]:
    """One note per variant: which components are read from its files."""
    found: dict[str, list[str]] = {}
    bound = {key for node in graph.nodes.values() for key in node.components.values()}
    keys = {
        *graph.components,
        *bound,
        *(checkpoint.keys if WHOLE_PIPELINE in graph.components else ()),
    }
    for key in sorted(keys & {*checkpoint.keys, *graph.components} - {WHOLE_PIPELINE}):
        with suppress(UserError):  # what is wrong with a component is reported where it is used
            source = checkpoint.component(component(graph, key))
            if source.variant:
                found.setdefault(source.variant, []).append(key)
    return [
        f"the `{variant}` weights of {', '.join(names)} are used: there are no plain ones"
        for variant, names in sorted(found.items())
    ]
