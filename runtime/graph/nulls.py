"""Find the `null` entries of a composed graph that remove something, and those that do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.graph import catalog
from runtime.settings.setting import Setting, graph_value

REMOVABLE_SECTIONS = ("constants", "request", "components", "nodes", "outputs")
PORTS = ("inputs", "params", "components")  # maps of a node whose entries null removes


def null_entries(
    data: Mapping[str, object], sources: Sequence[Path], edits: Sequence[Setting]
) -> dict[str, bool]:
    """Dotted path of each null to whether a file, or an earlier edit, gives it a value."""
    paths = list(_nulls(data))
    files = [catalog.read_yaml(source) for source in sources] if paths else []
    return {
        ".".join(path): any(_value(file, path) is not None for file in files)
        or any(_sets(edit, path) for edit in edits)
        or not all(map(_is_complete, sources))
        for path in paths
    }


def _nulls(data: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for section in REMOVABLE_SECTIONS:
        entries = data.get(section)
        for name, entry in entries.items() if isinstance(entries, Mapping) else ():
            if entry is None:
                yield section, str(name)
            elif section == "nodes" and isinstance(entry, Mapping):
                for part in PORTS:
                    ports = entry.get(part)
                    for port, value in ports.items() if isinstance(ports, Mapping) else ():
                        if value is None:
                            yield section, str(name), part, str(port)


def _value(data: object, path: Sequence[str]) -> object:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _sets(edit: Setting, path: Sequence[str]) -> bool:
    inside = edit.path[: len(path)] == tuple(path)
    return inside and (len(edit.path) > len(path) or graph_value(edit) is not None)


def _is_complete(source: Path) -> bool:
    """Whether every graph that a file extends is a name, so that its file is known."""
    return all(isinstance(name, str) for name in catalog.extends(source))
