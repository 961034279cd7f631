"""Run a graph through the compiler passes, with or without a model. Reads no weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtime.api import Runtime
from runtime.configure.asked_outputs import asked_outputs
from runtime.configure.resolve import resolve_graph
from runtime.configure.select_graph import named_graph
from runtime.errors import UserError, did_you_mean
from runtime.graph.check import Checked, check
from runtime.graph.model import Graph, Ref
from runtime.graph.parse import BUILT_IN, FIELD
from runtime.plan.content_keys import digest
from runtime.plan.items import ComponentFacts
from runtime.plan.passes import fold, prune
from runtime.plan.plan import Plan
from runtime.plan.planner import bound
from runtime.settings.field import Field
from runtime.settings.policies import Policies
from runtime.settings.setting import Setting, join_map_entries

if TYPE_CHECKING:
    from runtime.run.session import Session

PROMPT = "a prompt"  # used where no prompt is given: a plan does not depend on its words


@dataclass(frozen=True)
class Look:
    """A graph before and after a pass.

    before     as checked
    after      as the pass left it
    dropped    pass to the nodes that it dropped, each with the reason
    values     request values after defaults; what is not known is absent
    given       request fields that the user set
    facts      components, where a model is known
    keys       content keys of nodes, after fold
    ends       the outputs' edges after the pass
    engine     the session, where there is a model
    """

    stage: str
    before: Checked
    after: Checked
    values: Mapping[str, Any]
    given: frozenset[str]
    policies: Policies = field(default_factory=Policies)
    dropped: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    facts: Mapping[str, ComponentFacts] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[str, Ref] = field(default_factory=dict)
    plan: Plan | None = None
    engine: Session | None = None

    @property
    def graph(self) -> Graph:
        """The graph as composed."""
        return self.before.graph

    @property
    def rewired(self) -> dict[str, tuple[Ref, Ref]]:
        """`node.port` to its edge before and after, where a pass changed it."""
        return {
            f"{name}.{port}": (old, new)
            for name, node in self.after.graph.nodes.items()
            for port, new in node.inputs.items()
            if (old := self.graph.nodes[name].inputs[port]) != new
        }

    @property
    def reasons(self) -> dict[str, str]:
        """Every dropped node with its reason, whichever pass dropped it."""
        return {n: why for nodes in self.dropped.values() for n, why in nodes.items()}


def look(settings: Sequence[Setting], stage: str = "check", outputs: Sequence[str] = ()) -> Look:
    """The graph that settings choose, after a pass.

    outputs  those asked for; none: the first, and of a plan those that a run would make
    """
    if stage != "plan" and not has_model(settings):
        graph = resolve_graph(settings)
        given, checked = typed(graph, settings), check(graph)
        seen = Look("check", checked, checked, values_of(graph, given), frozenset(given),
                    ends=checked.graph.outputs)  # fmt: skip
        return _passed(seen, stage, wanted(checked.graph, outputs), _without_config(seen))
    runtime = Runtime.load(settings)
    engine = runtime.engine
    checked, given = engine.checked, dict(runtime.request)
    seen = Look(
        "check", checked, checked, values_of(runtime.graph, given), frozenset(given),
        runtime.config.policies, facts=engine.facts, ends=checked.graph.outputs, engine=engine,
    )  # fmt: skip
    if stage == "plan" and not outputs:  # what a run would make: the same plan as a dry run
        asked = asked_outputs(runtime.graph, runtime.config.policies)
        outputs = asked if set(asked) <= set(runtime.graph.outputs) else ()
    known = all(name in seen.values for name in runtime.fields)
    if stage == "plan" or (stage == "fold" and known):
        return _planned(seen, runtime, stage, outputs)
    return _passed(seen, stage, wanted(checked.graph, outputs), {})


def has_model(settings: Sequence[Setting]) -> bool:
    """Whether a checkpoint is named, or comes with the graph."""
    if any(s.dotted == "model.path" for s in settings):
        return True
    return any(s.dotted == "graph" and named_graph(s).checkpoint for s in settings)


def wanted(graph: Graph, outputs: Sequence[str]) -> dict[str, Ref]:
    """The edges of the outputs that are asked for; none: the first."""
    for name in outputs:
        if name not in graph.outputs:
            raise UserError(
                f"graph `{graph.name}` has no output `{name}`. It has: {', '.join(graph.outputs)}.",
                help=did_you_mean(name, graph.outputs), field="outputs",
            )  # fmt: skip
    return {name: graph.outputs[name] for name in (outputs or list(graph.outputs)[:1])}


def typed(graph: Graph, settings: Sequence[Setting]) -> dict[str, object]:
    """Request values that settings give, by the types of the graph's fields."""
    declared = {name: {"type": field.type} for name, field in graph.request.items()}
    values: dict[str, Any] = {}
    for setting in join_map_entries(settings, declared, FIELD):
        if setting.path[0] == "request" and len(setting.path) == 2:
            value = graph.request[setting.path[1]].parse(setting.value, setting.name)
            values.pop(setting.path[1], None)
            if value is not None:
                values[setting.path[1]] = value
    return values


def values_of(graph: Graph, given: Mapping[str, object]) -> dict[str, object]:
    """Request values after defaults; a required one that is not given is absent."""
    values = {}
    for name, known in graph.request.items():
        value = given.get(name, known.default)
        if isinstance(value, tuple) and not known.many:  # one run each: the first is looked at
            value = value[0] if value else None
        if value is None and known.required and known.type == "text":
            value = example(known)
        if value is not None or not known.required:
            values[name] = value
    return values


def _without_config(seen: Look) -> dict[str, str]:
    """Fields whose value only the configs of a checkpoint state: name to the key there."""
    fields = seen.graph.request.items()
    return {name: f.config for name, f in fields if f.config and name not in seen.given}


def _passed(seen: Look, stage: str, asked: Mapping[str, Ref], unknown: Mapping[str, str]) -> Look:
    """A look after prune or fold. unknown: fields that only the configs of a checkpoint state."""
    if stage == "check":
        return seen
    _refuse_unknown(seen, stage, unknown)
    small, ends, unneeded = prune(seen.before, seen.values, asked)
    parts = _parts(seen)
    if stage == "prune":
        return Look("prune", seen.before, small, dropped={"prune": unneeded}, ends=ends, **parts)
    folded_graph, _, alias = fold(small, _request_keys(seen), _identities(seen))
    joined = {old.node: f"equal to `{new.node}`" for old, new in alias.items()}
    dropped, ends = (
        {"prune": unneeded, "fold": joined},
        {n: alias.get(r, r) for n, r in ends.items()},
    )
    return Look("fold", seen.before, folded_graph, dropped=dropped, ends=ends, **parts)


def example(field: Field) -> str:
    """A prompt where none is given: one that works, where the graph names one."""
    return next(iter(field.trained.examples if field.trained else ()), PROMPT)


def _planned(seen: Look, runtime: Runtime, stage: str, outputs: Sequence[str]) -> Look:
    """A look after fold or plan, as a run would do it."""
    stand_in = {"prompt": example(runtime.fields["prompt"])} if "prompt" in runtime.fields else {}
    given = {} if runtime.request.get("prompt") else stand_in
    plan = runtime.plan(outputs=outputs or list(runtime.graph.outputs)[:1], **given)
    _, _, unneeded = prune(
        seen.before, runtime.validate(**given), wanted(seen.before.graph, outputs)
    )
    later = {name: why for name, why in plan.dropped.items() if name not in unneeded}
    joined = {name: why for name, why in later.items() if why.startswith("equal to")}
    remaining = {name: why for name, why in later.items() if name not in joined}
    dropped = {"prune": unneeded, "fold": joined} | ({"plan": remaining} if stage == "plan" else {})
    return Look(
        stage, seen.before, plan.checked, dropped=dropped, keys=plan.keys, ends=plan.outputs,
        plan=plan if stage == "plan" else None, **_parts(seen),
    )  # fmt: skip


def _parts(seen: Look) -> dict[str, Any]:
    names = ("values", "given", "policies", "facts", "engine")
    return {name: getattr(seen, name) for name in names}


def _refuse_unknown(seen: Look, stage: str, unknown: Mapping[str, str]) -> None:
    """Refuse a pass that depends on a value which only the configs of a checkpoint state."""
    for name, node in seen.graph.nodes.items():
        rule = getattr(seen.before.declarations[name].cls, "bypass", None)
        for port in inspect.signature(rule).parameters if rule else ():
            ref = node.inputs.get(port)
            if ref and ref.node == "request" and ref.port in unknown:
                raise UserError(
                    f"{stage} of graph `{seen.graph.name}` needs `{ref.port}`, which node `{name}` "
                    f"is bypassed by, and which the checkpoint's configs state "
                    f"(`{unknown[ref.port]}`)",
                    help=f"add `model.path=FOLDER` or a hub id, or `request.{ref.port}=...`",
                    field=f"request.{ref.port}",
                )


def _request_keys(seen: Look) -> dict[str, str]:
    """Digests that tell request ports apart; an unknown value equals only itself."""
    graph = seen.graph
    names = {name: digest(["port", name]) for name in (*graph.request, *BUILT_IN)}
    known = {name: digest(["value", repr(value)]) for name, value in seen.values.items()}
    return names | known


def _identities(seen: Look) -> dict[str, str]:
    """An identity per component: of its content where a model is known, else of its spec."""
    found = {}
    for name, node in seen.graph.nodes.items():
        for component in bound(node, seen.before.declarations[name]).values():
            fact = seen.facts.get(component)
            spec = repr(seen.graph.components.get(component, component))
            found[component] = fact.variant.digest if fact else spec
    return found
