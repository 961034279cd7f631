"""The items of a plan, and the facts that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class ComponentFacts:
    """What the plan knows of a component. nbytes: of its weights in their final dtype."""

    class_name: str
    identity: str
    dtype: str
    nbytes: int
    handle: Any = field(compare=False, repr=False, default=None)


@dataclass(frozen=True)
class Facts:
    """The world as the plan sees it.

    components    by the graph's name; a component that the checkpoint lacks is absent
    resident      names of those already loaded
    memo          content keys whose results are kept
    request_keys  digest of each request port
    """

    device: str
    components: Mapping[str, ComponentFacts]
    request_keys: Mapping[str, str]
    resident: frozenset[str] = frozenset()
    memo: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Load:
    """Make a component resident."""

    component: str
    class_name: str
    dtype: str
    nbytes: int


@dataclass(frozen=True)
class Recall:
    """Take a node's result from the memo."""

    node: str
    type: str


@dataclass(frozen=True)
class Run:
    """Run a node. nbytes: predicted outputs and working set; none where the node does not tell."""

    node: str
    type: str
    nbytes: int | None = None


@dataclass(frozen=True)
class Free:
    """Drop a node's values: this was their last use."""

    node: str


Item: TypeAlias = Load | Recall | Run | Free
