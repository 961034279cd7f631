"""The graphs on the search path, and which of them serves a checkpoint. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import yaml

from runtime.errors import UserError, nearest

NO_VALUE = object()
# Keys of a graph that describe it; nothing of them is computed.
DESCRIPTION_KEYS = ("title", "task", "reference", "checkpoints", "known_defects")
CATALOG_KEYS = (*DESCRIPTION_KEYS, "checkpoint", "matches")
SEARCH_PATH_VARIABLE = "SGLANG_GRAPH_PATH"


class Configured(Protocol):
    """The facts of a checkpoint that choose a graph."""

    @property
    def name(self) -> str:
        """As the user named it."""
        ...

    @property
    def class_name(self) -> str:
        """Class of its pipeline."""
        ...

    def lookup(self, key: str) -> object:
        """The value at a dotted key of its configs; None where absent."""
        ...


@dataclass(frozen=True)
class Entry:
    """One graph file: its row in the catalog, and the checkpoints that it serves.

    task         T2I, TI2I, I2I, T2V, I2V, TI2V or V2V
    reference    the diffusers class that it equals, or another implementation it is compared with
    checkpoints  hub ids that it was written for
    known_defects  sentences on defects of the reference: shared, or not
    """

    name: str
    path: Path
    title: str = ""
    checkpoint: str | None = None
    matches: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    reference: str = ""
    checkpoints: tuple[str, ...] = ()
    known_defects: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Pipeline classes that it serves."""
        found = self.matches.get("class") or ()
        return (found,) if isinstance(found, str) else tuple(map(str, found))

    def score(self, class_name: str, checkpoint: Configured, names: Iterable[str]) -> int:
        """How specifically it serves a checkpoint: 1 per fact, 100 for an id; 0 if it does not."""
        if class_name not in self.classes:
            return 0
        facts = self.matches.get("config") or {}
        if any(
            (checkpoint.lookup(key) or None) != (wanted or None) for key, wanted in facts.items()
        ):
            return 0  # older checkpoints omit keys that newer ones set to null or false
        ids = self.matches.get("ids") or ()
        if ids and not any(fnmatch(n.lower(), i.lower()) for n in names for i in ids):
            return 0
        return 1 + len(facts) + 100 * bool(ids)


def folders() -> tuple[Path, ...]:
    """The search path for graphs: `$SGLANG_GRAPH_PATH`, then the packaged ones."""
    own = os.environ.get(SEARCH_PATH_VARIABLE, "")
    return (*(Path(p).resolve() for p in own.split(os.pathsep) if p), packaged("graphs"))


def packaged(package: str) -> Path:
    """The folder of an installed data package."""
    return Path(str(resources.files(package)))


def entries(extra: Iterable[Path] = ()) -> dict[str, Entry]:
    """Every graph on the search path, by name; earlier folders win."""
    found: dict[str, Entry] = {}
    for folder in (*extra, *folders()):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, _entry(path, (folder, *folders())))
    return found


def _entry(path: Path, search: tuple[Path, ...]) -> Entry:
    head: dict[str, object] = {}
    for file in graph_files(path, search):
        raw = read_yaml(file)
        head_of_file: dict[str, object] = {k: raw[k] for k in CATALOG_KEYS if k in raw}
        place = head_of_file.get("checkpoint")
        if isinstance(place, str) and place.startswith("."):
            head_of_file["checkpoint"] = str(file.parent / place)
        head = merge_maps(head, head_of_file)
    place = head.get("checkpoint")
    return Entry(
        path.stem, path, str(head.get("title") or ""), None if place is None else str(place),
        _matches(head.get("matches")), str(head.get("task") or ""),
        str(head.get("reference") or ""), _texts(head.get("checkpoints")),
        _texts(head.get("known_defects")),
    )  # fmt: skip


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _matches(value: Any) -> dict[str, Any]:
    """The parts of `matches` that have the right type; `check` reports the others."""
    shapes: dict[str, Any] = {"class": str | list, "config": Mapping, "ids": list}
    known = value.items() if isinstance(value, Mapping) else ()
    return {k: v for k, v in known if isinstance(v, shapes.get(k, object))}


def extends(path: Path) -> list[object]:
    """The `defaults` list of a graph file; composing the graph reports one that is no list."""
    listed = read_yaml(path).get("defaults")
    return listed if isinstance(listed, list) else []


def extends_itself(path: Path) -> bool:
    """Whether a graph names itself as what it extends: no graph can extend such a file."""
    return path.stem in extends(path)


def graph_files(path: Path, search: Iterable[Path]) -> tuple[Path, ...]:
    """The files that a graph is composed of: what it extends (`defaults`), then itself."""
    folders = (path.parent, *search)
    found: list[Path] = []

    def visit(file: Path, above: tuple[Path, ...]) -> None:
        for base in extends(file):
            target = extended_file(base, folders) if isinstance(base, str) else None
            if target and target not in (*above, file):
                visit(target, (*above, file))
        found.append(file)

    visit(path, ())
    return tuple(dict.fromkeys(found))


def extended_file(base: str, folders: Iterable[Path]) -> Path | None:
    """The file that a name in `defaults` stands for; one that extends itself is passed over."""
    name = base.partition("@")[0]
    candidates = (folder / f"{name}.yaml" for folder in folders)
    return next((c for c in candidates if c.is_file() and not extends_itself(c)), None)


def merge_maps(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge of plain mappings: `over` wins."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge_maps(out[key], value) if both else value
    return out


@cache
def _read(path: Path, changed: int) -> dict[str, object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        raw = yaml.load(path.read_text("utf-8"), loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return {}  # reported with its position when that graph is composed; others must still work
    return raw if isinstance(raw, dict) else {}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as plain data; an unreadable one is empty here."""
    return _read(path, path.stat().st_mtime_ns)


def best_graph(checkpoint: Configured, *, class_name: str | None, model_id: str | None) -> Entry:
    """The graph that serves a checkpoint most specifically; an error lists near matches."""
    wanted = class_name or checkpoint.class_name
    found = best(checkpoint, wanted, model_id)
    if found is None:
        raise unserved(checkpoint, wanted)
    return found


def best(checkpoint: Configured, class_name: str, model_id: str | None) -> Entry | None:
    """The graph that serves a checkpoint most specifically; None where none does."""
    names = [model_id] if model_id else [checkpoint.name, Path(checkpoint.name).name]
    ranked = sorted(
        ((e.score(class_name, checkpoint, names), e.name, e) for e in entries().values()),
        reverse=True,
    )
    return ranked[0][2] if ranked and ranked[0][0] else None


def unserved(checkpoint: Configured, class_name: str) -> UserError:
    """The error for a checkpoint that no graph serves; it lists the nearest graphs."""
    near = [e.name for e in entries().values() if class_name in e.classes]
    if near:
        return UserError(
            f"no graph fits this {class_name} in `{checkpoint.name}`: its config differs from what "
            f"{', '.join(f'`{n}`' for n in near)} expect{'s' * (len(near) == 1)}",
            help=f"to use one all the same, name it: `graph={near[0]}`", field="model.path",
        )  # fmt: skip
    served = {c: e.name for e in reversed(entries().values()) for c in e.classes}
    likely = [f"`{served[c]}` ({c})" for c in nearest(class_name, served, count=3)]
    return UserError(
        f"no graph serves {class_name} (from `{checkpoint.name}`)",
        help=f"near it: {', '.join(likely)}" if likely else "`sglang graphs` lists all graphs",
        field="model.path",
    )
