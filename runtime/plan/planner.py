"""The plan: what is loaded, run, recalled and freed, in order. Made before a weight is read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from runtime.contract.declare import Declaration, options
from runtime.contract.rules import is_effect
from runtime.graph.check import Checked
from runtime.graph.model import NodeSpec, Ref
from runtime.plan.items import Facts, Free, Item, Load, Recall, RunNode
from runtime.plan.liveness import binds_lazily, last_reader, readers, reads_lazily
from runtime.plan.passes import fold, known_arguments, prune
from runtime.plan.plan import Plan


def plan(
    checked: Checked, request: Mapping[str, object], outputs: Mapping[str, Ref], facts: Facts
) -> Plan:
    """Plan a request: prune, fold, then order loads, runs and frees."""
    small, wanted, dropped = prune(checked, request, outputs)
    identities = {n: c.variant.digest for n, c in facts.components.items()}
    folded, keys, alias = fold(small, facts.request_keys, identities)
    joined = {old.node: new.node for old, new in alias.items()}
    dropped |= {n: f"equal to `{other}`" for n, other in joined.items()}
    wanted = {name: alias.get(ref, ref) for name, ref in wanted.items()}
    needed = _needed(folded, wanted, keys, facts.memo)
    for name in folded.order:
        if name not in needed.nodes:
            dropped[name] = "its result is cached"
    runs = needed.nodes - needed.recalled
    estimates = {
        n: estimate(folded.graph.nodes[n], folded.declarations[n], request, facts) for n in runs
    }
    for name in sorted(
        runs
    ):  # a request that a node cannot run is refused before anything is loaded
        by_its_rule("verify", folded.graph.nodes[name], folded.declarations[name], request, facts)
    order = [n for n in folded.order if n in needed.nodes]
    alive = readers(folded, order, needed.recalled)
    items = _order(folded, needed, order, last_reader(order, alive), estimates, facts)
    return Plan(
        tuple(items), folded, wanted, keys, dropped, facts, lasting(folded),
        {n: _before(folded, n) & runs for n in runs}, alive,
        {n: device_of(folded, n, facts) for n in order},
    )  # fmt: skip


def _before(checked: Checked, name: str) -> frozenset[str]:
    """The nodes whose values a node takes."""
    return frozenset(ref.node for ref in checked.graph.nodes[name].inputs.values())


def lasting(checked: Checked) -> frozenset[str]:
    """Nodes whose results may be cached across requests.

    Files and uploads are side effects: a node that makes one, or needs such a node, is not cached,
    because a recall would not write the file. Binding costs nothing, and a stream is read once.
    """
    effects: set[str] = set()
    for name in checked.order:
        above = {ref.node for ref in checked.graph.nodes[name].inputs.values()}
        if above & effects or makes_effect(checked.declarations[name]):
            effects.add(name)
    return frozenset(
        n for n in checked.order if n not in effects and not binds_lazily(checked.declarations[n])
    )


def makes_effect(known: Declaration) -> bool:
    """Whether a node does something outside: it writes a file, or uploads one."""
    return any(_is_effect(port.type) for port in known.outputs.values())


def _is_effect(kind: object) -> bool:
    """Whether a value of this type stands for a side effect: a file, an upload, or several."""
    return any(is_effect(x) for o in options(kind) for x in (o, *get_args(o)))


def _needed(
    checked: Checked, wanted: Mapping[str, Ref], keys: Mapping[str, str], memo: frozenset[str]
) -> Needed:
    """Backwards from the outputs: nodes that are wanted, and those of them that the memo holds."""
    needed: set[str] = set()
    recalled: set[str] = set()
    todo = [ref.node for ref in wanted.values()]
    while todo:
        name = todo.pop()
        if name in needed or name == "request":
            continue
        needed.add(name)
        if keys[name] in memo:
            recalled.add(name)
        else:
            todo += [ref.node for ref in checked.graph.nodes[name].inputs.values()]
    outputs = frozenset(ref.node for ref in wanted.values())
    return Needed(frozenset(needed), frozenset(recalled), outputs)


@dataclass(frozen=True)
class Needed:
    """Nodes of a request: all, those whose results the memo holds, and those that are outputs."""

    nodes: frozenset[str]
    recalled: frozenset[str]
    outputs: frozenset[str]


def _order(
    checked: Checked,
    needed: Needed,
    order: list[str],
    last: Mapping[str, str],
    estimates: Mapping[str, int | None],
    facts: Facts,
) -> list[Item]:
    """Loads, runs, recalls and frees. last: node to the last node that needs its value."""
    here = set(facts.resident)
    items: list[Item] = []
    for name in order:
        node, known = checked.graph.nodes[name], checked.declarations[name]
        if name in needed.recalled:
            items.append(Recall(name, node.type))
        else:
            asks = calls_networks(known)  # else it reads configs at most
            waiting = _at_call(checked, name, facts)
            for component in _to_load(checked, name):
                fact = facts.components.get(component)
                if fact and component not in here and (asks or not fact.variant.is_network):
                    here.add(component)
                    items.append(
                        Load(component, fact.class_name, fact.dtype, fact.nbytes,
                             at_call=component in waiting)
                    )  # fmt: skip
            items.append(RunNode(name, node.type, estimates[name]))
        items += [Free(n) for n in order if last[n] == name and n not in needed.outputs]
    return items


def calls_networks(known: Declaration) -> bool:
    """Whether a node's run calls networks: its own, or those of values that others bound."""
    return reads_lazily(known) or inspect.isgeneratorfunction(known.cls.run)


def bound(node: NodeSpec, known: Declaration) -> dict[str, str]:
    """Component field of a node to the component it binds."""
    return {field: node.components.get(field, field) for field in known.components}


def _to_load(checked: Checked, name: str) -> list[str]:
    """Components a node's run may ask for: its own, and of denoisers and streams that reach it."""
    node, known = checked.graph.nodes[name], checked.declarations[name]
    if binds_lazily(known):
        return []
    return list(dict.fromkeys([*bound(node, known).values(), *_behind(checked, name)]))


def _behind(checked: Checked, name: str) -> list[str]:
    """Components of the denoisers and streams that reach a node."""
    found: list[str] = []
    todo = list(checked.graph.nodes[name].inputs.values())
    while todo:
        ref = todo.pop(0)
        source = checked.declarations.get(ref.node)
        if source and binds_lazily(source):
            found += bound(checked.graph.nodes[ref.node], source).values()
            todo += checked.graph.nodes[ref.node].inputs.values()
    return found


def _at_call(checked: Checked, name: str, facts: Facts) -> set[str]:
    """Networks that are loaded at their first call: there are several, and some may not be used."""
    node, known = checked.graph.nodes[name], checked.declarations[name]
    if binds_lazily(known):
        return set()
    behind = {*_behind(checked, name)} - {*bound(node, known).values()}
    heavy = {c for c in behind if (fact := facts.components.get(c)) and fact.variant.is_network}
    return heavy if len(heavy) > 1 else set()


def device_of(checked: Checked, name: str, facts: Facts) -> str:
    """Where a node runs: where its own networks are, else where most nodes do."""
    components = bound(checked.graph.nodes[name], checked.declarations[name]).values()
    networks = [c for c in components if c in facts.components]
    placed = [facts.place(c).device for c in networks if facts.components[c].variant.is_network]
    return placed[0] if placed else facts.device


def estimate(
    node: NodeSpec, known: Declaration, request: Mapping[str, object], facts: Facts
) -> int | None:
    """Predicted bytes of a node's outputs and working set, by its own `estimate`, if it has one."""
    if not hasattr(known.cls, "estimate"):
        return 0 if binds_lazily(known) else None  # binding allocates nothing
    estimate = by_its_rule("estimate", node, known, request, facts)
    return None if estimate is None else int(estimate)


def by_its_rule(
    name: str, node: NodeSpec, known: Declaration, request: Mapping[str, object], facts: Facts
) -> Any:
    """The result of a node's rule for the inputs known before it runs; None if one is missing."""
    rule = getattr(known.cls, name, None)
    if rule is None:
        return None
    arguments = known_arguments(rule, node, known, request)
    handles = {f: facts.components.get(c) for f, c in bound(node, known).items()}
    if arguments is None or any(h is None and known.components[f] for f, h in handles.items()):
        return None
    made = {f: h.handle if h else None for f, h in handles.items()}
    instance = known.cls(**made, **node.params)
    return rule(instance, **{k: v for k, v in arguments.items() if k not in known.params})
