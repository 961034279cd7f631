"""A diffusers-format model, from a folder or the hub, opened without its weights. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runtime.checkpoint import component_source as sources
from runtime.checkpoint import hub
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.file_faults import file_fault, folder_fault, reading
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.required_files import CONFIGS
from runtime.errors import UserError, did_you_mean, nearest
from runtime.graph.model import ComponentSpec

INDEX = "model_index.json"


class Absent:
    """The type of `ABSENT`: what a lookup gives for a key that is nowhere."""

    def __repr__(self) -> str:
        return "absent"

    def __bool__(self) -> bool:
        return False


ABSENT = Absent()


@dataclass(frozen=True)
class Checkpoint:
    """An opened model.

    name      as the user gave it
    index     model_index.json
    revision  the commit on the hub, else what the user gave
    """

    name: str
    files: Folder = field(repr=False)
    index: Mapping[str, Any] = field(repr=False, hash=False)
    revision: str | None = None

    @classmethod
    def open(cls, path: str, *, revision: str | None = None) -> Checkpoint:
        """Open a folder, or a hub id (its small files are fetched, weights are not)."""
        files = find_folder(path, revision, "model_path")
        if not files.has_entry(INDEX):
            raise _no_model(path, files)
        index = files.json(INDEX)
        return cls(path, files, index, files.repo.commit if files.repo else revision)

    @property
    def root(self) -> Path:
        """The model's folder on disk."""
        return self.files.path

    @property
    def class_name(self) -> str:
        """The pipeline class that the model was saved as."""
        name = self.index.get("_class_name")
        if isinstance(name, list) and name:  # the file of the model that has the class, the class
            name = name[-1]
        return name if isinstance(name, str) else ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The components that the model has."""
        return tuple(k for k in self.index if self._declared(k))

    def config(self, key: str) -> Mapping[str, Any]:
        """The config of a component; empty where it has none."""
        folder = self.files.child(key)
        return next((c for name in CONFIGS if (c := folder.json(name))), {})

    def lookup(self, key: str) -> object:
        """A value by dotted key: of model_index.json, or of a component's config; else `ABSENT`.

        A component's name alone gives its class, or None where the model leaves it out.
        """
        head, _, rest = key.partition(".")
        if not rest:
            value = self.index.get(head, ABSENT)
            return value[1] if isinstance(value, list) and len(value) == 2 else value
        value = self.config(head) if head in self.keys else self.index.get(head, ABSENT)
        for part in rest.split("."):
            value = value.get(part, ABSENT) if isinstance(value, Mapping) else ABSENT
        return value

    def component(self, spec: ComponentSpec) -> ComponentSource:
        """Where a component's class, config and weights are, with the user's overrides."""
        source = self._source(spec)
        return sources.of_class(source, spec.class_name) if spec.class_name else source

    def _source(self, spec: ComponentSpec) -> ComponentSource:
        declared = self._declared(spec.name)
        if spec.path is None:
            if declared is None:
                raise self._unknown(spec.name)
            files = self._at(spec).child(spec.name)
            if not files.exists():
                raise _no_folder(spec.name, files)
            return sources.find_component(spec.name, files, declared, changed=spec.config)
        if spec.path.endswith(".safetensors"):
            return self._other_weights(spec, declared)
        files = override(spec)
        own = self.config(spec.name)
        return sources.find_component(spec.name, files, declared, changed=spec.config, own=own)

    def fetch_weights(self, source: ComponentSource) -> ComponentSource:
        """Download the weights that are still on the hub; the source with them on disk."""
        return sources.fetch_weights(source)

    def _declared(self, key: str) -> tuple[str, str] | None:
        value = self.index.get(key)
        if key.startswith("_") or not isinstance(value, list) or len(value) != 2 or not value[1]:
            return None
        return str(value[0]), str(value[1])

    def _at(self, spec: ComponentSpec) -> Folder:
        """The model's folder at the revision that a component asks for."""
        if spec.revision is None:
            return self.files
        if self.files.repo is None:
            raise UserError(
                f"components.{spec.name}.revision: `{spec.revision}` is given, but `{self.name}` is"
                " a local folder, which has no revisions.",
                help=f"give a hub id as components.{spec.name}.path, or leave the revision out",
                field=f"components.{spec.name}.revision",
            )
        return find_folder(self.files.repo.id, spec.revision, f"components.{spec.name}.revision")

    def _other_weights(
        self, spec: ComponentSpec, declared: tuple[str, str] | None
    ) -> ComponentSource:
        weights = Path(str(spec.path)).expanduser()
        if problem := file_fault(weights):
            raise _wrong_path(spec, problem.message.rstrip("."), problem.help)
        if not weights.is_file():
            raise _wrong_path(spec, "there is no such file")
        if declared is None:
            raise self._unknown(spec.name)
        files = self.files.child(spec.name)
        return sources.find_component(
            spec.name, files, declared, changed=spec.config, weights=weights
        )

    def _unknown(self, name: str) -> UserError:
        left_out = name in self.index and not name.startswith("_")
        return UserError(
            f"`{self.name}` has no component `{name}`"
            + (f": its {INDEX} leaves it out." if left_out else "."),
            help=" ".join(
                filter(None, (did_you_mean(name, self.keys), f"it has: {', '.join(self.keys)}"))
            ),
            field=f"components.{name}",
        )


def find_folder(path: str, revision: str | None, field: str) -> Folder:
    """The folder of a path or hub id; local folders come first."""
    local = Path(path).expanduser()
    with reading(local):
        is_folder, is_there = local.is_dir(), local.exists() or local.is_symlink()
    if is_folder:
        return Folder(local)
    meant, is_beside = _suggestion(local)
    if hub.is_hub_id(path) and not is_there:
        try:
            repo = _repo(path, revision)
        except UserError as problem:
            if not is_beside:  # nothing on disk is like it
                raise
            raise UserError(
                problem.message, help=f"{meant} Else {problem.help}", field=field
            ) from problem
        return Folder(repo.root, repo)
    if fault := folder_fault(local):
        if not local.exists():
            raise UserError(f"{field}: {fault.message}", help=fault.help, field=field)
        raise UserError(
            f"{field}: `{path}` is a file, not a folder.",
            help="give a folder in diffusers format (with model_index.json) or a hub id",
            field=field,
        )
    if id := hub.id_of_url(path):
        raise UserError(
            f"{field}: `{path}` is an address, and a hub id or a folder is needed.",
            help=f"write `{id}`", field=field,
        )  # fmt: skip
    raise UserError(
        f"{field}: `{path}` is neither a folder nor a hub id (`organisation/name`).",
        help=meant or "check the path",
        field=field,
    )


def _suggestion(local: Path) -> tuple[str, bool]:
    """A folder on disk whose name is near, as words; whether the path's own parent is there."""
    is_beside = local.parent.is_dir() and local.parent != Path()
    parent = local.parent if local.parent.is_dir() else Path()
    with suppress(OSError):
        near = nearest(local.name, (p.name for p in parent.iterdir() if p.is_dir()))
        if near:
            return f"did you mean `{local.with_name(near[0])}`?", is_beside
    return "", False


def override(spec: ComponentSpec) -> Folder:
    """The folder that `components.X.path` means: a component's own, or one inside a whole model."""
    path = str(spec.path)
    files = find_folder(path, spec.revision, f"components.{spec.name}.path")
    inside = files.child(spec.name)
    for folder in (inside, files):
        if any(folder.has_entry(name) for name in CONFIGS):
            return folder
    raise _wrong_path(
        spec, f"it has no folder `{spec.name}` and no {CONFIGS[0]}, {CONFIGS[1]} or {CONFIGS[2]}"
    )


@cache
def _repo(id: str, revision: str | None) -> hub.Repo:
    return hub.open_repo(id, revision)


def _no_folder(name: str, files: Folder) -> UserError:
    """The error for a component that the model names and whose folder is not there."""
    field = f"components.{name}.path"
    if problem := folder_fault(files.path):
        return UserError(f"`{name}`: {problem.message}", help=problem.help, field=field)
    return UserError(
        f"{files.path.parent} has no folder `{name}`, though {INDEX} names it.",
        help="download the model again" if files.repo is None else hub.REFETCH,
        field=field,
    )


def _wrong_path(spec: ComponentSpec, reason: str, help: str = "") -> UserError:
    return UserError(
        f"components.{spec.name}.path: `{spec.path}` is no source for `{spec.name}`: {reason}.",
        help=help
        or "give a component's folder, a model with one (folder or hub id), or a .safetensors",
        field=f"components.{spec.name}.path",
    )


def _no_model(path: str, files: Folder) -> UserError:
    names = files.names()
    config = files.json("config.json")
    single = [n for n in names if n.endswith((".safetensors", ".ckpt", ".pt", ".gguf"))]
    if "_class_name" in config:
        held = f"it is one component ({config['_class_name']})"
        fix = "give the whole model, and this folder as `components.<name>.path`"
    elif config:
        held = f"it is a transformers model ({config.get('model_type', 'of unknown type')})"
        fix = "give a diffusers model; a text encoder goes to `components.<name>.path`"
    elif single:
        held = f"it holds single-file weights ({', '.join(single[:3])}), which are not supported"
        fix = "give the model in diffusers format, a folder with model_index.json"
    else:
        held = f"it holds {', '.join((files.folders() + names)[:5]) or 'nothing'}"
        near = [f for f in files.folders() if files.child(f).on_disk(INDEX)]
        fix = (
            f"did you mean `{Path(path) / near[0]}`?" if near else "give a diffusers-format folder"
        )
    return UserError(f"`{path}` has no {INDEX}: {held}.", help=fix, field="model_path")
