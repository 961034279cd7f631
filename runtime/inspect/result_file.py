"""The settings of a run, read from its result file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import Position, UserError
from runtime.files.image_files import MEDIA_TYPES
from runtime.graph.catalog import entries
from runtime.provenance.read_back import has_folder, provenance
from runtime.settings.setting import Setting

KINDS = frozenset({*MEDIA_TYPES, ".json"})
EXPLAINED_SECTIONS = ("nodes", "components", "outputs", "request", "precision", "vae")


def is_result(name: str) -> bool:
    """Whether a name is that of a file as runs make them; a folder may be called so too."""
    path = Path(name).expanduser()
    return path.suffix.lower() in KINDS and not path.is_dir()


def recorded_settings(file: str) -> list[Setting]:
    """Graph, request and changes of the graph; its model only where the graph brings it along.

    A file may come from anyone: it names graphs that are installed, and fetches no model.
    """
    path = Path(file).expanduser()
    record = provenance(path)
    name = record["graph"]["name"]
    if name not in entries():
        raise UserError(
            f"{file} was made with graph `{name}`, which is not on the search path",
            help="look at its file: python -m runtime.visualize FILE.yaml", field="file",
        )  # fmt: skip
    at = Position(path.name)
    values = [("graph", name), *_recorded(record)]
    return [Setting(tuple(dotted.split(".")), value, dotted, at) for dotted, value in values]


def _recorded(record: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in record["request"].items():
        inputs = value if isinstance(value, list) else [value]
        if not any(isinstance(one, dict) for one in inputs):  # of pictures there are only digests
            yield f"request.{name}", value
    for path, value in record["settings"].items():
        if path.partition(".")[0] in EXPLAINED_SECTIONS and not has_folder(value):
            yield path, value
