"""Which graph and which checkpoint: by name, by the checkpoint's class and config, or the default.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from runtime.checkpoint import vanilla_pipeline as pipelines
from runtime.checkpoint.checkpoint import INDEX, Checkpoint
from runtime.errors import UserError, did_you_mean
from runtime.graph import catalog
from runtime.graph.compose_cache import composed_graph
from runtime.settings import policies
from runtime.settings.setting import Setting, is_nothing, setting_label

VANILLA = "diffusers"  # the graph, and the backend that asks for it


def select_graph(
    settings: Sequence[Setting], model: policies.Model
) -> tuple[catalog.Entry, Checkpoint, tuple[str, ...]]:
    """The graph and the checkpoint, and a note that says why."""
    named = next((s for s in reversed(settings) if s.path == ("graph",)), None)
    entry = named_graph(named) if named and not is_nothing(named.value) else None
    entry = _agreed(entry, model.backend)
    if not model.path:
        _refuse_model_settings(settings, model)
    checkpoint = Checkpoint.open(model.path, revision=model.revision) if model.path else None
    if model.revision and (checkpoint is None or checkpoint.files.repo is None):
        raise UserError(
            f"`revision` is {model.revision}, and a local folder has no revisions",
            help="give a hub id as `model.path`, or leave it out", field="model.revision",
        )  # fmt: skip
    if checkpoint:
        return _for_model(entry, checkpoint, model)
    default = default_graph()
    if model.backend == VANILLA and entry and entry.name == VANILLA:
        return _default_model(entry, default, model)
    entry = entry or default
    if not entry.checkpoint:
        data, _ = composed_graph(entry.path, {})  # what is wrong with the file is reported first
        if not data.get("nodes"):
            raise UserError(
                f"graph `{entry.name}` has no nodes", help="nodes: {name: {type: module.Class}}",
                field="graph",
            )  # fmt: skip
        raise UserError(
            f"graph `{entry.name}` needs a model and none is given",
            help="add `model.path=FOLDER` or a hub id", field="model.path",
        )  # fmt: skip
    checkpoint = Checkpoint.open(_folder(entry))
    if entry.name == default.name:
        note = f"No `model.path` given: using {entry.title}"
    else:
        note = f"graph `{entry.name}` with the checkpoint that it brings"
    return entry, checkpoint, (note,)


def default_graph() -> catalog.Entry:
    """The graph that runs where neither a graph nor a model is named."""
    return catalog.entries()[catalog.read_yaml(catalog.packaged("conf") / "default.yaml")["graph"]]


def _default_model(
    entry: catalog.Entry, brings: catalog.Entry, model: policies.Model
) -> tuple[catalog.Entry, Checkpoint, tuple[str, ...]]:
    """The vanilla pipeline of the checkpoint that the default graph brings."""
    folder = _folder(brings)
    named = dataclasses.replace(model, path=folder)
    entry, checkpoint, notes = _for_model(entry, Checkpoint.open(folder), named)
    return entry, checkpoint, (f"No `model.path` given: using {brings.title}", *notes)


def _agreed(entry: catalog.Entry | None, backend: str) -> catalog.Entry | None:
    """The graph that is named, or that a backend means; a UserError where they contradict."""
    if entry is None:
        return catalog.entries()[VANILLA] if backend == VANILLA else None
    if (backend == "sglang" and _is_vanilla(entry)) or (
        backend == VANILLA and not _is_vanilla(entry)
    ):
        raise UserError(
            f"`backend` is {backend}, and graph `{entry.name}` is none of its graphs",
            help="leave one of the two out", field="model.backend",
        )  # fmt: skip
    return entry


def _is_vanilla(entry: catalog.Entry) -> bool:
    """Whether a graph is that of vanilla pipelines, or extends it."""
    return any(p.stem == VANILLA for p in catalog.graph_files(entry.path, catalog.folders()))


def _for_model(
    entry: catalog.Entry | None, checkpoint: Checkpoint, model: policies.Model
) -> tuple[catalog.Entry, Checkpoint, tuple[str, ...]]:
    """The graph for a model: as asked, else its own, else that of vanilla pipelines."""
    name = model.pipeline_class_name or checkpoint.class_name
    if not name and (entry is None or _is_vanilla(entry)):
        raise UserError(
            f"{checkpoint.root / INDEX} does not say which pipeline the model is for: it has no"
            " `_class_name`",
            help="download the model again, or name it: `model.pipeline_class_name=CLASS`",
            field="model.path",
        )
    reason = "as asked"
    if entry is None:
        entry = catalog.best(checkpoint, name, model.id)
        if entry:
            return entry, checkpoint, (f"graph `{entry.name}` serves {name} ({model.path})",)
        problem = catalog.unserved(checkpoint, name)
        if model.backend == "sglang":
            also = "; `model.backend=diffusers` runs it vanilla" * pipelines.has_pipeline(
                checkpoint, name
            )
            raise UserError(problem.message, help=problem.help + also, field=problem.field)
        entry, reason = catalog.entries()[VANILLA], problem.message
    if not _is_vanilla(entry):
        return entry, checkpoint, (f"graph `{entry.name}`, as asked, with {model.path}",)
    if not pipelines.has_pipeline(checkpoint, name):
        raise pipelines.unknown_class(name, checkpoint.name, "" if reason == "as asked" else reason)
    pipelines.check_trust(checkpoint, name, trusted=model.trust_remote_code)
    note = f"graph `{entry.name}` runs the vanilla {name} ({model.path}): {reason}"
    return entry, checkpoint, (note,)


def _refuse_model_settings(settings: Sequence[Setting], model: policies.Model) -> None:
    """Refuse, where no model is given, an empty path and settings that choose a model's graph."""
    if model.path is not None:
        raise UserError(
            f"{_label(settings, 'path')} is empty",
            help="name a folder or a hub id, or leave it out",
            field="model.path",
        )
    for name, value in (("id", model.id), ("pipeline_class_name", model.pipeline_class_name)):
        if value is not None:
            raise UserError(
                f"{_label(settings, name)} {value} needs a `model.path`: it chooses that model's"
                " graph",
                help="add `model.path=FOLDER` or a hub id, or leave it out", field=f"model.{name}",
            )  # fmt: skip


def _label(settings: Sequence[Setting], name: str) -> str:
    return next(setting_label(s) for s in reversed(settings) if s.path == ("model", name))


def _folder(entry: catalog.Entry) -> str:
    """Where the checkpoint is that a graph brings: in a package, a folder, or a hub id."""
    place = entry.checkpoint or ""
    if place.startswith("pkg://"):
        package, _, inside = place.removeprefix("pkg://").partition("/")
        return str(catalog.packaged(package) / inside)
    return place


def named_graph(setting: Setting) -> catalog.Entry:
    """A graph by name on the search path, or by the path of its file."""
    name = str(setting.value)
    if name.lower().endswith((".yaml", ".yml", ".json", ".py")) or "/" in name:
        path = Path(name).expanduser()
        wrong = _no_graph_file(path)
        if wrong:
            raise UserError(f"{setting_label(setting)}: {wrong.format(name)}", field="graph")
        return catalog.entries([path.parent.resolve()])[path.stem]
    known = catalog.entries()
    if name not in known:
        raise UserError(
            f"{setting_label(setting)}: there is no graph `{name}`",
            help=did_you_mean(name, known) or f"there are: {', '.join(sorted(known))}",
            field="graph",
        )  # fmt: skip
    return known[name]


def _no_graph_file(path: Path) -> str:
    """Why a path, `{}`, is no graph file; empty where it is one."""
    if path.is_dir():
        return "{} is a folder; name a .yaml file in it"
    if not path.exists():
        return "the file {} does not exist"
    if path.suffix != ".yaml":
        return "the file {} must end in .yaml"
    return "" if path.is_file() and os.access(path, os.R_OK) else "the file {} cannot be read"
