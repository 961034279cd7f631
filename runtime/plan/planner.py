"""The plan: what is loaded, run, recalled and freed, in order. Made before a weight is read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from runtime.contract.declare import Declaration, options
from runtime.contract.denoising import Denoiser
from runtime.contract.outputs import File, Url
from runtime.contract.values import VideoStream
from runtime.graph.check import Checked
from runtime.graph.model import NodeSpec, Ref
from runtime.plan.items import Facts, Free, Item, Load, Recall, Run
from runtime.plan.passes import fold, known_arguments, prune
from runtime.plan.plan import Plan


def plan(
    checked: Checked, request: Mapping[str, Any], outputs: Mapping[str, Ref], facts: Facts
) -> Plan:
    """Plan a request: prune, fold, then order loads, runs and frees."""
    small, wanted, dropped = prune(checked, request, outputs)
    identities = {n: f"{c.identity}:{c.dtype}" for n, c in facts.components.items()}
    folded, keys, alias = fold(small, facts.request_keys, identities)
    joined = {old.node: new.node for old, new in alias.items()}
    dropped |= {n: f"equal to `{other}`" for n, other in joined.items()}
    wanted = {name: alias.get(ref, ref) for name, ref in wanted.items()}
    needed, recalled = _needed(folded, wanted, keys, facts.memo)
    for name in folded.order:
        if name not in needed:
            dropped[name] = "its result is kept"
    estimates = {
        n: estimate(folded.graph.nodes[n], folded.declarations[n], request, facts)
        for n in needed - recalled
    }
    for name in sorted(needed - recalled):  # what a node could not run is refused before it loads
        by_its_rule("verify", folded.graph.nodes[name], folded.declarations[name], request, facts)
    kept = {ref.node for ref in wanted.values()}
    items = _order(folded, (needed, recalled, kept), estimates, facts)
    late = frozenset(c for n in needed - recalled for c in _late(folded, n, facts))
    return Plan(tuple(items), folded, wanted, keys, dropped, facts, lasting(folded), late)


def lasting(checked: Checked) -> frozenset[str]:
    """Nodes whose results may be kept across requests.

    Files and uploads are effects, so neither a node that makes one nor any that needs such a node
    is among them: recalled, it would leave the file unwritten. Binding costs nothing, and a stream
    can be read once.
    """
    effects: set[str] = set()
    for name in checked.order:
        made = checked.declarations[name].outputs.values()
        above = {ref.node for ref in checked.graph.nodes[name].inputs.values()}
        if above & effects or any(_is_effect(port.type) for port in made):
            effects.add(name)
    return frozenset(
        n for n in checked.order if n not in effects and not binds_lazily(checked.declarations[n])
    )


def _is_effect(kind: Any) -> bool:
    """Whether a value of this type says what was done outside: a file, an upload, or several."""
    return bool({File, Url} & {x for o in options(kind) for x in (o, *get_args(o))})


def _needed(
    checked: Checked, wanted: Mapping[str, Ref], keys: Mapping[str, str], memo: frozenset[str]
) -> tuple[set[str], set[str]]:
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
    return needed, recalled


def _order(
    checked: Checked,
    sets: tuple[set[str], set[str], set[str]],
    estimates: Mapping[str, int | None],
    facts: Facts,
) -> list[Item]:
    """Loads, runs, recalls and frees. sets: nodes needed, those of them recalled, those kept."""
    needed, recalled, kept = sets
    order = [n for n in checked.order if n in needed]
    last = _last_use(checked, order, recalled)
    here = set(facts.resident)
    items: list[Item] = []
    for name in order:
        node, known = checked.graph.nodes[name], checked.declarations[name]
        if name in recalled:
            items.append(Recall(name, node.type))
        else:
            asks = calls_networks(known)  # else it reads configs at most
            for component in _to_load(checked, name):
                fact = facts.components.get(component)
                if fact and component not in here and (asks or not fact.nbytes):
                    here.add(component)
                    items.append(Load(component, fact.class_name, fact.dtype, fact.nbytes))
            items.append(Run(name, node.type, estimates[name]))
        items += [Free(n) for n in order if last[n] == name and n not in kept]
    return items


def calls_networks(known: Declaration) -> bool:
    """Whether a node's run asks for forwards: itself, or by reading a stream."""
    reads = any(VideoStream in options(port.type) for port in known.inputs.values())
    return reads or inspect.isgeneratorfunction(known.cls.run)


def _last_use(checked: Checked, order: list[str], recalled: set[str]) -> dict[str, str]:
    last = {name: name for name in order}
    for name in order:
        if name not in recalled:
            for ref in checked.graph.nodes[name].inputs.values():
                last[ref.node] = name
    return last


def bound(node: NodeSpec, known: Declaration) -> dict[str, str]:
    """Component field of a node to the component it binds."""
    return {field: node.components.get(field, field) for field in known.components}


def binds_lazily(known: Declaration) -> bool:
    """Whether a node only binds: its weights are wanted later, when someone predicts or reads."""
    made = {kind for port in known.outputs.values() for kind in options(port.type)}
    return bool(made & {Denoiser, VideoStream})


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


def _late(checked: Checked, name: str, facts: Facts) -> set[str]:
    """Networks that wait for the step that asks them: there are several, and some may never be."""
    node, known = checked.graph.nodes[name], checked.declarations[name]
    if binds_lazily(known):
        return set()
    behind = {*_behind(checked, name)} - {*bound(node, known).values()}
    heavy = {c for c in behind if (fact := facts.components.get(c)) and fact.nbytes}
    return heavy if len(heavy) > 1 else set()


def estimate(
    node: NodeSpec, known: Declaration, request: Mapping[str, Any], facts: Facts
) -> int | None:
    """Predicted bytes of a node's outputs and working set, by its own `estimate`, if it has one."""
    if not hasattr(known.cls, "estimate"):
        return 0 if binds_lazily(known) else None  # binding makes nothing new
    told = by_its_rule("estimate", node, known, request, facts)
    return None if told is None else int(told)


def by_its_rule(
    name: str, node: NodeSpec, known: Declaration, request: Mapping[str, Any], facts: Facts
) -> Any:
    """What a node's rule tells of the inputs that are known before it runs; None if it cannot."""
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
