"""Flags of `sglang generate` that come from the request fields of graphs. Imports no torch.

A graph states name, type and help of a field, so a new field is a flag without an edit here. Where
graphs differ, the graph that the call names decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.flag import Flag
from runtime.configure.run_config import is_batched
from runtime.graph import catalog
from runtime.graph.request_fields import request_fields
from runtime.settings.field import TYPES, Field

INPUT_TYPES = frozenset({"text", "image", "video", "file"})  # shown as "Prompt", others "Sampling"
METAVARS = {"image": "FILE|URL", "video": "FILE|URL", "file": "FILE|URL", "path": "PATH"}
UNITS = {"px": "PX", "tokens": "TOKENS", "s": "S"}


def request_flags(options: Mapping[str, Any], graph: str = "") -> list[Flag]:
    """A flag per request field of every graph on the search path, and of the graph that is named.

    options  the section `request` of flags.yaml: order, aliases, fields that `serve` takes too
    graph    a name, or the path of a file; an unknown name adds nothing
    """
    found = request_fields(graph)
    first = {name: place for place, name in enumerate(options["first"])}
    # Then fields that many graphs have before those of a few.
    names = sorted(found, key=lambda name: (first.get(name, len(first)), -len(found[name])))
    return [_flag(name, found[name], options) for name in names]


def graph_named(words: Sequence[str]) -> str:
    """The graph that a command line or its config files name last; empty where none is named."""
    graph = ""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.removeprefix("--").partition("=")
        if name == "graph":
            graph = value if equals else following
        elif name == "config":
            graph = _graph_of_config(value if equals else following) or graph
    return graph


def _graph_of_config(file: str) -> str:
    """The key `graph` of a config file; a file that cannot be read is reported elsewhere."""
    path = Path(file).expanduser()
    try:
        text = path.read_text("utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else catalog.read_yaml(path)
    except (OSError, ValueError):
        return ""
    named = found.get("graph") if isinstance(found, Mapping) else None
    return named if isinstance(named, str) else ""


def _flag(name: str, found: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Flag:
    own = found[0]
    kind = own.get("type") if own.get("type") in TYPES else "text"
    many = any(f.get("many") is True for f in found) or is_batched(Field(name, str(kind)))
    choices = own.get("choices")
    numeric = kind in {"int", "float", "seed"}
    served = name in options["serve"]
    return Flag(
        name=f"--{name.replace('_', '-')}",
        group="Prompt" if kind in INPUT_TYPES else "Sampling",
        path=("request", name),
        type="path" if kind in METAVARS else str(kind),
        many=many,
        append=many and not numeric,  # a second --seed replaces the first, a second --prompt adds
        aliases=tuple(options["aliases"].get(name, ())),
        choices=tuple(map(str, choices)) if isinstance(choices, list) else (),
        commands=("generate", "serve") if served else ("generate",),
        metavar=METAVARS.get(str(kind), UNITS.get(str(own.get("unit")), "")),
        help=next((str(f["help"]) for f in found if f.get("help")), ""),
    )
