"""How a file was made, as plain data that it carries: enough to make it again.

No folder of this machine is in it: components and input pictures stand as base names and digests
of what is in them, hub ids and commits as they are. No times either: equal runs, equal files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import device as devices
from runtime.checkpoint import identity
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.vanilla_pipeline import PipelineSource, remote_code
from runtime.configure.run_config import RunConfig
from runtime.contract.outputs import Destination
from runtime.files.embedded_text import PROVENANCE_KEY
from runtime.graph.check import Checked
from runtime.graph.model import Graph
from runtime.plan.content_keys import digest, pictures_key
from runtime.plan.items import ComponentFacts
from runtime.plan.plan import Plan
from runtime.plan.planner import bound
from runtime.provenance.packages import versions
from runtime.provenance.read_back import (
    ENCODING,
    NOT_RECORDED,
    RECORD_VERSION,
    RECORDED_ELSEWHERE,
    base_name,
    has_folder,
    without_folders,
)
from runtime.settings.field import PIXELS
from runtime.settings.policies import Policies, policy_fields
from runtime.settings.setting import graph_value

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PlannedRun:
    """What a file is made with, apart from the request.

    checked  the whole graph, before the plan left anything out
    plan     what is run of it
    device   where it is run
    """

    config: RunConfig
    checked: Checked
    sources: Mapping[str, ComponentSource | PipelineSource]
    facts: Mapping[str, ComponentFacts]
    device: torch.device
    plan: Plan


@dataclass
class Happened:
    """What a run did that its plan does not say.

    batch  the most runs that one call of a network answered
    rungs  component to what was done where its calls ran out of memory
    """

    batch: int = 1
    rungs: dict[str, str] = dataclasses.field(default_factory=dict)


def provenance_record(
    made: PlannedRun,
    request: Mapping[str, object],
    ports: Mapping[str, Any],
    destination: Destination,
    happened: Happened,
) -> dict[str, object]:
    """How the files of a run are made, as far as it has come.

    request, ports  the complete request, and its values as they travel on edges
    """
    config, checked = made.config, made.checked
    values, local = _settings(config, destination)
    edits = _edits(made, local)
    code = {n.type: checked.declarations[name].digest for name, n in checked.graph.nodes.items()}
    return {
        PROVENANCE_KEY: RECORD_VERSION,
        "graph": {"name": config.graph.name, "digest": graph_digest(config.graph)},
        "model": _model(config),
        "request": _request(config.graph, request, ports),
        "settings": values | edits,
        "local": local,
        "components": _components(made),
        "code": dict(sorted(code.items())),
        "execution": {**devices.execution(made.device), **_run(made.plan, happened)},
        "versions": dict(versions()),
        **({"notes": list(made.plan.notes)} if made.plan.notes else {}),
    }


def record_json(record: Mapping[str, object]) -> str:
    """The text that a file carries: JSON, in ASCII so that no reader can mistake its encoding."""
    return json.dumps(record)


def graph_digest(graph: Graph) -> str:
    """A digest of what a composed graph computes: where its components lie is not part of it."""
    nodes = {
        name: [
            *(n.type, {p: str(r) for p, r in n.inputs.items()}, dict(n.params), dict(n.components)),
            *([str(n.behind)] if n.behind else []),
        ]
        for name, n in graph.nodes.items()
    }
    fields = {n: dataclasses.asdict(f) | {"help": ""} for n, f in graph.request.items()}
    for facts in fields.values():
        del facts["reason"]  # words, as `help` is
        for later in ("shape_of", "alpha"):
            if not facts[later]:
                del facts[later]  # so that older files still name the same graph
    components = {
        n: [c.dtype, dict(c.config), *([c.class_name] if c.class_name else [])]
        for n, c in graph.components.items()
    }
    return digest([nodes, fields, components, {n: str(r) for n, r in graph.outputs.items()}])


def _model(config: RunConfig) -> dict[str, object]:
    """The checkpoint: on the hub, in a local folder (by its name alone), or the graph's."""
    checkpoint = config.checkpoint
    if checkpoint.files.repo:
        return {"hub": checkpoint.files.repo.id, "revision": checkpoint.files.repo.commit}
    if config.policies.model.path is None:
        return {"of_graph": config.graph.name}
    return {"folder": checkpoint.root.resolve().name}


def _request(
    graph: Graph, request: Mapping[str, Any], ports: Mapping[str, Any]
) -> dict[str, object]:
    """Every field with a value; pictures and files as name and digest of what is in them."""
    found: dict[str, Any] = {}
    sides = {n: ports[n] for n in request if graph.request[n].shape_of}  # a picture may decide
    for name, value in {**request, **sides}.items():
        kind = graph.request[name].type
        many = value if isinstance(value, tuple) else (value,)
        if value is None:
            continue
        if kind in PIXELS:
            seen = ports[name] if isinstance(value, tuple) else (ports[name],)
            each = [
                {"name": base_name(v), "digest": pictures_key(image)}
                for v, image in zip(many, seen, strict=True)
            ]
            found[name] = each if isinstance(value, tuple) else each[0]
        elif kind in {"file", "path"}:
            each = [{"name": base_name(v), "digest": _of_input(v)} for v in many]
            found[name] = each if isinstance(value, tuple) else each[0]
        else:
            found[name] = value if kind == "text" else without_folders(value)
    return found


def _run(plan: Plan, happened: Happened) -> dict[str, object]:
    """Where components were, if not resident on one device, and what memory made of the plan."""
    places = {n: f"{p.device} {p.residency}" for n, p in plan.facts.places.items()}
    found = {"batch_size": happened.batch, "places": places, "recovery": dict(happened.rungs)}
    return {name: value for name, value in found.items() if value}


def _of_input(value: str) -> str:
    path = Path(value).expanduser()
    return identity.of_content(path) if path.is_file() else ""


def _settings(config: RunConfig, to: Destination) -> tuple[dict[str, object], dict[str, str]]:
    """Policies that change what comes out, where they differ from the defaults; local folders."""
    found: dict[str, Any] = {}
    local: dict[str, str] = {}
    for group, fields in policy_fields().items():
        for at, field in fields.items():
            path = f"{group}.{at}"
            value = getattr(getattr(config.policies, group), field.name.split(".")[1])
            if group in NOT_RECORDED or path in RECORDED_ELSEWHERE or value == field.default:
                continue
            if has_folder(value):
                local[path] = base_name(value)
            else:
                found[path] = value
    usual = Policies().output
    for name in ENCODING:
        if getattr(to, name) != getattr(usual, name):
            found[f"output.{name}"] = getattr(to, name)
    return found, local


def _edits(made: PlannedRun, local: dict[str, str]) -> dict[str, object]:
    """What settings changed in the graph; components of this machine go into `local`."""
    found: dict[str, Any] = {}
    for edit in made.config.graph.edits:
        value = graph_value(edit)
        found.pop(edit.dotted, None)
        local.pop(edit.dotted, None)
        head, name, *rest = edit.path
        if head == "components" and rest == ["path"] and value is not None:
            source = made.sources.get(name)
            repo = source.files.repo if isinstance(source, ComponentSource) else None
            if repo is None:
                local[edit.dotted] = base_name(value)
            else:
                found |= {edit.dotted: repo.id, f"components.{name}.revision": repo.commit}
        elif has_folder(value):
            local[edit.dotted] = base_name(value)
        else:
            found[edit.dotted] = value
    return found


def _components(made: PlannedRun) -> dict[str, Any]:
    """Every component that the planned nodes bind: class, dtype and digest of its content."""
    checked = made.plan.checked
    used = {
        key
        for name, node in checked.graph.nodes.items()
        for key in bound(node, checked.declarations[name]).values()
    }
    found: dict[str, Any] = {}
    for name in sorted(used & set(made.sources)):
        source, dtype = made.sources[name], made.facts[name].dtype
        if isinstance(source, ComponentSource):
            found[name] = _component(source, dtype)
            continue
        found[name] = {"class": source.class_name, "digest": _of_pipeline(source)}
        for part, inner in sorted(source.parts.items()):
            found[f"{name}.{part}"] = _component(inner, source.dtypes.get(part) or dtype)
    return found


def _component(source: ComponentSource, dtype: str) -> dict[str, Any]:
    facts = {"class": source.class_name, "digest": source.content_digest}
    facts |= {"variant": source.variant} if source.variant else {}
    return facts | ({"dtype": dtype} if source.has_weights and dtype else {})


def _of_pipeline(source: PipelineSource) -> str:
    """A digest of a vanilla pipeline's own settings and code; its parts have theirs."""
    root = source.checkpoint.root
    files = remote_code(source.checkpoint, source.class_name)
    code = [identity.of_content(root / f) for f in files if (root / f).is_file()]
    index = {k: v for k, v in source.config.items() if not k.startswith("_")}
    return identity.digest_of(source.class_name, index, code)
