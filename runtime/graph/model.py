"""The dataclasses of a composed graph. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from runtime.settings.field import Field
from runtime.settings.setting import Setting


class Ref(NamedTuple):
    """An edge's source: `node.port`. Node `request` is the request itself."""

    node: str
    port: str

    def __str__(self) -> str:
        return f"{self.node}.{self.port}"


class Finding(NamedTuple):
    """A problem of a graph, before its line is known. path: dotted path in the graph."""

    path: str
    message: str
    help: str = ""


@dataclass(frozen=True)
class NodeSpec:
    """One node.

    type        `module.Class`, `plugin:module.Class` or `./file.py:Class`
    inputs      port or parameter to the edge that fills it; `port.0` is the first edge of a list
    params      parameter or port to a literal
    components  field of the class to the component that it binds
    help        a line for readers
    behind      the output behind which it is inserted: other readers of it read this node instead
    file        the Python file that holds its class, where it is none of a package
    """

    name: str
    type: str
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    help: str = ""
    behind: Ref | None = None
    file: Path | None = None


@dataclass(frozen=True)
class SubGraph:
    """A node that is a graph: its inputs are the fields of that graph's request.

    graph       name on the search path, or a file
    inputs      request field to an edge of the outer graph
    params      request field to a literal
    components  component of that graph to the one of the outer graph that stands for it
    """

    name: str
    graph: str
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    help: str = ""


@dataclass(frozen=True)
class ComponentSpec:
    """What a graph states about a component; settings can override all of it.

    name       key of model_index.json
    class_name class of the library in place of the checkpoint's own, such as another scheduler
    path       a folder or hub id of its own; none: the folder `name` in the model
    revision   branch, tag or commit of that hub id; none: the model's
    role       what it is for, such as `vae`: policies speak of roles; none: as its node declares
    dtype      dtype of its weights (`float32`, `bfloat16`, `float16`); none: by policy
    config     values that replace those of the component's own config
    parts      of a whole pipeline: key of model_index.json to the role of that part
    """

    name: str
    path: str | None = None
    revision: str | None = None
    dtype: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    class_name: str | None = None
    role: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A composed graph.

    matches    which checkpoints it serves: `class`, `config` (dotted key into the checkpoint's
               configs: value)
    request    fields a request may fill
    outputs    name to edge; a run computes those that are asked for
    checkpoint the model it brings along, if it does (`pkg://package/folder`)
    sources    the files that contributed, base first
    edits      settings that changed the graph after its files
    findings   problems that parsing found; the entries at fault are left out
    absent     components that are null: nodes to which they are optional run without them
    nulls      dotted path of each null to whether it removes something that a file below it has
    borrowed   components that sub-graphs declare
    rebinding  sub-graph to its components that another one stands for
    """

    name: str
    title: str
    nodes: Mapping[str, NodeSpec]
    request: Mapping[str, Field]
    components: Mapping[str, ComponentSpec]
    outputs: Mapping[str, Ref]
    matches: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    sources: tuple[Path, ...] = ()
    edits: tuple[Setting, ...] = ()
    findings: tuple[Finding, ...] = ()
    absent: frozenset[str] = frozenset()
    nulls: Mapping[str, bool] = field(default_factory=dict)
    borrowed: frozenset[str] = frozenset()
    rebinding: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
