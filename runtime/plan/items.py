"""The items of a plan, and the facts that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from runtime.checkpoint.handle import Handle
from runtime.checkpoint.variant import Variant


@dataclass(frozen=True)
class ComponentFacts:
    """What the plan knows of a component. nbytes: of its weights in their final dtype."""

    variant: Variant
    nbytes: int
    handle: Handle | None = field(compare=False, repr=False, default=None)

    @property
    def class_name(self) -> str:
        """Of the module or tool."""
        return self.variant.class_name

    @property
    def dtype(self) -> str:
        """Of its weights; empty for a tool, or as stored."""
        return self.variant.dtype


@dataclass(frozen=True)
class Place:
    """Where a component is while it is used, and why.

    residency  resident: it stays; offload: it is parked on the host between uses
    why        the reason, for a person
    chosen_by  `plan`, or `user`
    """

    device: str
    residency: Literal["resident", "offload"] = "resident"
    why: str = "there is one device"
    chosen_by: Literal["plan", "user"] = "plan"


@dataclass(frozen=True)
class Facts:
    """The facts about devices, components and cached results on which a plan depends.

    device        the one that nodes run on, unless a component of theirs is placed elsewhere
    components    by the graph's name; a component that the checkpoint lacks is absent
    places        of components that are not on that device, or not resident
    resident      names of those already loaded
    memo          content keys whose results are kept
    request_keys  digest of each request port
    """

    device: str
    components: Mapping[str, ComponentFacts]
    request_keys: Mapping[str, str]
    resident: frozenset[str] = frozenset()
    memo: frozenset[str] = frozenset()
    places: Mapping[str, Place] = field(default_factory=dict)

    def place(self, component: str) -> Place:
        """Where a component is used."""
        return self.places.get(component) or Place(self.device)


@dataclass(frozen=True)
class Load:
    """Make a component ready. at_call: by the call that first asks it, not before the node."""

    component: str
    class_name: str
    dtype: str
    nbytes: int
    at_call: bool = False


@dataclass(frozen=True)
class Recall:
    """Take a node's result from the cache."""

    node: str
    type: str


@dataclass(frozen=True)
class RunNode:
    """Run a node. nbytes: predicted outputs and working set; None without an `estimate`."""

    node: str
    type: str
    nbytes: int | None = None


@dataclass(frozen=True)
class Free:
    """Drop a node's values: this was their last use."""

    node: str


Item: TypeAlias = Load | Recall | RunNode | Free
