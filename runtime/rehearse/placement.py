"""What a rehearsed plan needs on a machine: where memory stands at each node, and for how long.

The engine keeps a component where it is until memory is short; then those that no call uses leave,
the least recently used first, and are read again when they are needed. This counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.plan.items import Load, RunNode
from runtime.plan.plan import Plan
from runtime.plan.planner import device_of
from runtime.rehearse.machine import Machine
from runtime.rehearse.rehearsal import NodeCost, Rehearsal

HEADROOM = 1.25  # the engine makes this much room for weights before it loads them


@dataclass(frozen=True)
class PlacedNode:
    """A node on its machine. peak: bytes on its device at most, the weights there included.

    short  component whose call does not fit; empty where all do
    """

    cost: NodeCost
    device: str
    peak: int
    seconds: float
    short: str = ""


@dataclass(frozen=True)
class PlacedComponent:
    """A component on its machine.

    residency  resident: it stays; disk: it leaves for others and is read again by each request
    """

    name: str
    class_name: str
    dtype: str
    nbytes: int
    device: str
    residency: str = "resident"
    why: str = "there is room for it beside those used with it"


@dataclass(frozen=True)
class Placement:
    """A rehearsed plan on a machine."""

    machine: Machine
    nodes: tuple[PlacedNode, ...]
    components: tuple[PlacedComponent, ...]
    peak: int

    @property
    def fits(self) -> bool:
        """Whether every node fits, as far as it is known."""
        return not any(node.short for node in self.nodes)

    @property
    def seconds(self) -> float:
        """Of all nodes; loading weights is not counted."""
        return sum(node.seconds for node in self.nodes)

    @property
    def unknown(self) -> tuple[NodeCost, ...]:
        """Nodes of which nothing is known."""
        return tuple(node.cost for node in self.nodes if node.cost.unknown)


def place_on_machine(plan: Plan, rehearsal: Rehearsal, machine: Machine) -> Placement:
    """Follow the plan through the memory of a machine's first device."""
    memory = _Memory(machine, rehearsal.weights)
    costs = {cost.name: cost for cost in rehearsal.nodes}
    nodes: list[PlacedNode] = []
    live = 0
    for item in plan.items:
        if isinstance(item, Load) and not item.at_call and item.component in rehearsal.weights:
            memory.bring(item.component, live, f"`{item.component}`")
        elif isinstance(item, RunNode):
            cost = costs[item.node]
            peak, short = memory.run(cost)
            seconds = machine.seconds(cost.flops, cost.matrix_bytes, cost.other_bytes)
            where = device_of(plan.checked, item.node, plan.facts)
            nodes.append(PlacedNode(cost, where, peak, seconds, short))
            live = cost.live
    parts = tuple(
        PlacedComponent(
            name, fact.class_name, fact.dtype, rehearsal.weights[name],
            plan.facts.place(name).device,
            *(("disk", memory.gone[name]) if name in memory.gone else ()),
        )
        for name, fact in plan.facts.components.items() if name in rehearsal.weights
    )  # fmt: skip
    return Placement(machine, tuple(nodes), parts, max((n.peak for n in nodes), default=0))


@dataclass
class _Memory:
    """The memory of a device: components on it, least recently used first. gone: why one left."""

    machine: Machine
    weights: Mapping[str, int]
    there: list[str] = field(default_factory=list)
    gone: dict[str, str] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """Bytes of weights that are there."""
        return sum(self.weights[name] for name in self.there)

    def bring(self, component: str, live: int, for_what: str) -> None:
        """Load a component, or use it once more; others leave as long as it does not fit."""
        if component not in self.there:
            need = int(self.weights[component] * HEADROOM)
            while self.there and self.held + live + need > self.machine.budget:
                self._leave(self.there[0], for_what)
            self.there.append(component)
        self.there.remove(component)
        self.there.append(component)

    def run(self, cost: NodeCost) -> tuple[int, str]:
        """The peak of a node, and the component whose call does not fit, if there is one."""
        peak, short = 0, ""
        for component, need in cost.peaks.items():
            if component in self.weights:
                self.bring(component, need, f"`{component}`")
                if self.held + need > self.machine.budget:
                    for other in [c for c in self.there if c != component]:
                        self._leave(other, f"the work of `{cost.name}`")
            if self.held + need > self.machine.budget and not short:
                short = component or "its values"
            peak = max(peak, self.held + need)
        return max(peak, self.held + cost.peak if not cost.peaks else 0), short

    def _leave(self, component: str, for_what: str) -> None:
        self.there.remove(component)
        self.gone[component] = f"it makes room for {for_what}, and each request reads it again"
