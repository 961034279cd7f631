"""Which graph and which checkpoint: by name, by the checkpoint's class and config, or the default.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime import catalog, policies
from runtime.checkpoint import Checkpoint
from runtime.composed import composed_graph
from runtime.errors import UserError, did_you_mean
from runtime.settings import Setting, is_nothing, shown


def choose(
    settings: Sequence[Setting], model: policies.Model
) -> tuple[catalog.Entry, Checkpoint, tuple[str, ...]]:
    """The graph and the checkpoint, and a note that says why."""
    named = next((s for s in reversed(settings) if s.path == ("graph",)), None)
    entry = named_graph(named) if named and not is_nothing(named.value) else None
    if model.backend == "diffusers":
        raise UserError(
            "`backend` diffusers (vanilla pipelines as one node) is not in this version",
            help="leave out --backend, or give auto or sglang", field="model.backend",
        )  # fmt: skip
    checkpoint = Checkpoint.open(model.path, revision=model.revision) if model.path else None
    if model.revision and (checkpoint is None or checkpoint.files.repo is None):
        raise UserError(
            f"`revision` is {model.revision}, and a local folder has no revisions",
            help="give a hub id as --model-path, or leave it out", field="model.revision",
        )  # fmt: skip
    if checkpoint and model.path:
        if entry:
            return entry, checkpoint, (f"graph `{entry.name}`, as asked, with {model.path}",)
        class_name = model.pipeline_class_name
        entry = catalog.choose(checkpoint, class_name=class_name, model_id=model.id)
        served = class_name or checkpoint.class_name
        return entry, checkpoint, (f"graph `{entry.name}` serves {served} ({model.path})",)
    default = catalog.read_yaml(catalog.packaged("conf") / "default.yaml")["graph"]
    entry = entry or catalog.entries()[default]
    if not entry.checkpoint:
        composed_graph(entry.path, {})  # what is wrong with the file itself is said first
        raise UserError(
            f"graph `{entry.name}` needs a model and none is given",
            help="add --model-path FOLDER or a hub id", field="model.path",
        )  # fmt: skip
    checkpoint = Checkpoint.open(_folder(entry))
    if entry.name == default:
        note = f"No --model-path given: using {entry.title}"
    else:
        note = f"graph `{entry.name}` with the checkpoint that it brings"
    return entry, checkpoint, (note,)


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
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name).expanduser()
        if path.suffix == ".yml" or not path.is_file():
            what = "must end in .yaml" if path.is_file() else "does not exist"
            raise UserError(f"{shown(setting)}: the file {name} {what}", field="graph")
        return catalog.entries([path.parent.resolve()])[path.stem]
    known = catalog.entries()
    if name not in known:
        raise UserError(
            f"{shown(setting)}: there is no graph `{name}`",
            help=did_you_mean(name, known) or f"there are: {', '.join(sorted(known))}",
            field="graph",
        )  # fmt: skip
    return known[name]
