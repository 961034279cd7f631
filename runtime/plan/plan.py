"""A plan, and its text for a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.graph.check import Checked
from runtime.graph.model import Ref
from runtime.plan.items import Facts, Free, Item, Load, Recall, RunNode
from runtime.plan.text import size


@dataclass(frozen=True)
class Plan:
    """A plan, and the graph and keys from which it was made.

    checked  the graph after prune and fold
    outputs  name to edge in that graph
    keys     node to content key
    dropped  node to the reason why it does not run
    lasting  nodes whose results later requests may recall
    after    node that runs to the nodes that must run before it; `items` has one possible order
    readers  node to the nodes after which its value is dropped
    devices  node to where it runs
    notes    notes for the user before the run: options without effect, truncated prompts
    """

    items: tuple[Item, ...]
    checked: Checked
    outputs: Mapping[str, Ref]
    keys: Mapping[str, str]
    dropped: Mapping[str, str]
    facts: Facts
    lasting: frozenset[str] = frozenset()
    after: Mapping[str, frozenset[str]] = field(default_factory=dict)
    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return plan_text(self)

    @property
    def peak_bytes(self) -> int:
        """Predicted peak: resident weights plus the largest working set at any point."""
        held = sum(self.facts.components[c].nbytes for c in self.facts.resident)
        peak = held
        for item in self.items:
            if isinstance(item, Load):
                held += item.nbytes
            peak = max(peak, held + (item.nbytes or 0 if isinstance(item, RunNode) else 0))
        return peak


def plan_text(plan: Plan) -> str:
    """A plan, one line per item, with predicted bytes and what is resident after each."""
    graph, facts = plan.checked.graph, plan.facts
    runs = sum(isinstance(i, RunNode) for i in plan.items)
    verb = "node runs" if runs == 1 else "nodes run"
    lines = [f"plan of graph `{graph.name}` on {facts.device}: {runs} {verb}"]
    held = sum(facts.components[c].nbytes for c in facts.resident if c in facts.components)
    if facts.resident:
        lines.append(f"  resident already: {', '.join(sorted(facts.resident))} ({size(held)})")
    for number, item in enumerate(plan.items, 1):
        match item:
            case Load():
                held += item.nbytes
                what = f"{item.class_name} {item.dtype}".strip()
                what += ", at its first step" if item.at_call else ""
                row = ("load", item.component, what, size(item.nbytes) if item.nbytes else "")
            case RunNode():
                row = ("run", item.node, item.type, size(item.nbytes))
            case Recall():
                row = ("recall", item.node, item.type, "")
            case Free():
                row = ("free", item.node, "", "")
        verb, name, what, cost = row
        tail = f"weights {size(held)}" if verb == "load" and cost else ""
        lines.append(f"{number:4}  {verb:6}  {name:16} {what:44} {cost:>9}  {tail}".rstrip())
    lines += [f"      not run {name:16} {why}" for name, why in plan.dropped.items()]
    lines += [f"      note: {note}" for note in plan.notes]
    silent = sum(isinstance(i, RunNode) and i.nbytes is None for i in plan.items)
    tell = "node does not predict its memory" if runs == 1 else "nodes do not predict their memory"
    untold = f"; {silent} of {runs} {tell}" if silent else ""
    least = "at least " if silent else ""
    lines.append(f"predicted peak: {least}{size(plan.peak_bytes)} (weights {size(held)}{untold})")
    return "\n".join(lines)
