"""The view of a graph: plain data from which drawings, pages and tables are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FieldRow:
    """A request field. value: after defaults, as text; given: whether the user set it."""

    name: str
    type: str
    value: str
    unit: str
    default: str
    limits: str
    help: str
    given: bool
    readers: tuple[str, ...]


@dataclass(frozen=True)
class ComponentRow:
    """A component. nbytes: of its weights in `dtype`; none where no model is known.

    identity  digest of its class, config and weights
    role      what it is for
    """

    name: str
    class_name: str
    dtype: str
    nbytes: int | None
    path: str
    users: tuple[str, ...]
    identity: str = ""
    role: str = ""


@dataclass(frozen=True)
class PortRow:
    """A port of a node. source: the edge into it, `node.port`; value: of a request edge, as text.

    axes   of its type, and of what is in it
    about  its line in the docstring of the node
    """

    name: str
    type: str
    axes: str = ""
    about: str = ""
    source: str = ""
    value: str = ""


@dataclass(frozen=True)
class Cost:
    """Time and memory of a node in a measured run: bytes in use after it, and their peak."""

    milliseconds: float
    runs: int = 1
    recalled: int = 0
    nbytes: int | None = None
    peak_nbytes: int | None = None


@dataclass(frozen=True)
class NodeRow:
    """A node.

    declaration  its signature, as a class reads
    file, line   of its class, relative to the package that it is in
    written      where the graph writes it, file:line:column
    help         what the graph says of it
    key          content key, after fold
    nbytes       predicted outputs and working set; none where the node does not tell
    dropped      by which pass, and why; empty where it is still there
    """

    name: str
    type: str
    summary: str
    doc: str
    declaration: str
    file: str
    line: int
    written: str
    inputs: tuple[PortRow, ...]
    outputs: tuple[PortRow, ...]
    params: Mapping[str, str]
    components: Mapping[str, str]
    help: str = ""
    key: str = ""
    nbytes: int | None = None
    dropped: str = ""
    cost: Cost | None = None


@dataclass(frozen=True)
class ItemRow:
    """An item of the plan. held: bytes of weights that are resident after it."""

    verb: str
    name: str
    what: str
    nbytes: int | None
    held: int


@dataclass(frozen=True)
class GraphView:
    """A graph after a pass, with all that is known about it.

    outputs  name to edge
    rewired  `node.port` to its edge before and after the passes
    passes   pass to the nodes that it dropped, each with the reason
    plan     the items in order; empty before that pass
    resident components that are loaded before it
    took     milliseconds of a measured run
    policies config path to value, where it is not the default
    """

    name: str
    title: str
    stage: str
    model: str
    request: tuple[FieldRow, ...]
    components: tuple[ComponentRow, ...]
    nodes: tuple[NodeRow, ...]
    outputs: Mapping[str, str]
    rewired: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    passes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    plan: tuple[ItemRow, ...] = ()
    resident: tuple[str, ...] = ()
    peak_nbytes: int | None = None
    took: float | None = None
    policies: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> tuple[NodeRow, ...]:
        """The nodes that the passes left."""
        return tuple(node for node in self.nodes if not node.dropped)


def plain_data(value: object) -> object:
    """A description as JSON takes it, without what is empty."""
    if hasattr(value, "__dataclass_fields__"):
        found = {n: plain_data(getattr(value, n)) for n in value.__dataclass_fields__}
        return {n: v for n, v in found.items() if v not in (None, "", (), [], {})}
    if isinstance(value, Mapping):
        return {str(k): plain_data(v) for k, v in value.items()}
    return [plain_data(v) for v in value] if isinstance(value, tuple | list) else value
