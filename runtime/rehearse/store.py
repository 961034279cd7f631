"""Rehearsals on disk, by graph, configs and request. Seeds and file names do not count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.disk_cache import library_versions, read_entry, write_entry
from runtime.contract.outputs import Destination
from runtime.contract.values import Rng
from runtime.files.object_store import ObjectStore
from runtime.plan.content_keys import digest
from runtime.plan.plan import Plan
from runtime.rehearse.rehearsal import AnySource, NodeCost, Rehearsal, Rehearser

FOLDER = "rehearsals"
VERSION = 1  # of what is counted and how: another one forgets all that is on disk


def rehearsed(
    plan: Plan, request: Mapping[str, Any], sources: Mapping[str, AnySource]
) -> Rehearsal:
    """The rehearsal of a plan: from disk where there is one, else made and kept."""
    key = rehearsal_key(plan, request, sources)
    known = read_entry(FOLDER, key)
    if known is not None:
        return Rehearsal(tuple(NodeCost(**node) for node in known["nodes"]), known["weights"])
    made = Rehearser(plan, request, sources).run()
    write_entry(FOLDER, key, asdict(made))
    return made


def rehearsal_key(plan: Plan, request: Mapping[str, Any], sources: Mapping[str, AnySource]) -> str:
    """A digest of all that needs depend on."""
    graph, declared = plan.checked.graph, plan.checked.declarations
    nodes = {
        name: [spec.type, declared[name].digest, spec.params, spec.components,
               {port: str(ref) for port, ref in spec.inputs.items()}]
        for name, spec in graph.nodes.items()
    }  # fmt: skip
    items = [[type(item).__name__, repr(item)] for item in plan.items]
    components = {n: _component(s, plan.facts.components[n].dtype) for n, s in sources.items()}
    asked = {n: k for n, k in plan.facts.request_keys.items() if _counts(n, request, plan)}
    return digest([VERSION, library_versions(), nodes, items, components, asked])


def _counts(name: str, request: Mapping[str, Any], plan: Plan) -> bool:
    """Whether a value of the request can change what is needed."""
    field = plan.checked.graph.request.get(name)
    outside = isinstance(request.get(name), Rng | Destination | ObjectStore)
    return not outside and (field is None or field.type != "seed")


def _component(source: AnySource, dtype: str) -> list[Any]:
    if not isinstance(source, ComponentSource):
        return [source.class_name, source.identity, dtype]
    tool = [] if source.has_weights else [source.identity]
    tuned = [source.left_out, repr(source.vae_settings)]
    return [source.library, source.class_name, dict(source.config), dtype, *tool, *tuned]
