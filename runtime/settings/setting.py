"""Settings: the options of a user, before they have types. Imports no torch.

A setting is a dotted path, a value as it was written, and where it was written. Later settings win.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from runtime.errors import Position

# A number such as 1e-3 is one in graph files; PyYAML alone takes it for text.
FLOAT_PATTERN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+")


class Raw(str):
    """Text as typed (command line, plain YAML scalar): parsed later, by the type of its field."""

    __slots__ = ()


@dataclass(frozen=True)
class Setting:
    """One `path = value`.

    path      dotted config path (`components.vae.path`), without flags' dashes
    value     `Raw` where the field's type decides; else plain data (str, int, float, bool, None,
               list, dict)
    name      as the user wrote it (`--vae-path`, `vae_path`), for messages
    position  `command line`, `environment`, or file:line:column
    """

    path: tuple[str, ...]
    value: Any
    name: str
    position: Position

    @property
    def dotted(self) -> str:
        """The path as text."""
        return ".".join(self.path)


def join_map_entries(
    settings: Iterable[Setting], declared: object, attributes: Sequence[str]
) -> list[Setting]:
    """Settings of entries of a request field that is a map, each as the whole map by then.

    declared    the graph's request section; a field that it lacks counts as a map
    attributes  what a graph says of a field: those of a field it lacks are no entries
    """
    fields = declared if isinstance(declared, Mapping) else {}
    maps: dict[str, Any] = {}
    made = []
    for setting in settings:
        if setting.path[0] == "request" and len(setting.path) > 1:
            name, keys = setting.path[1], setting.path[2:]
            field = fields.get(name)
            kind = field.get("type") if isinstance(field, Mapping) else None
            if keys and (kind == "map" or (field is None and keys[0] not in attributes)):
                maps[name] = _with_entry(maps.get(name, {}), keys, setting.value)
                made.append(replace(setting, path=setting.path[:2], value=maps[name]))
                continue
            if not keys:
                maps[name] = setting.value if isinstance(setting.value, Mapping) else {}
        made.append(setting)
    return made


def _with_entry(over: Mapping[str, object], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A nested map with one value more; what was typed means what it would in JSON."""
    if len(keys) == 1:
        return {**over, keys[0]: _plain(value)}
    below = over.get(keys[0])
    below = below if isinstance(below, Mapping) else {}
    return {**over, keys[0]: _with_entry(below, keys[1:], value)}


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Raw):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return str(value)


def graph_value(edit: Setting) -> Any:
    """What a setting puts into a graph: plain text means what it would in a YAML file.

    Path, revision and dtype of a component are text, whatever they look like.
    """
    if not isinstance(edit.value, Raw):
        return edit.value
    if edit.path[0] == "components" and len(edit.path) == 3:
        return None if is_null(edit.value) else str(edit.value)
    return _scalar(edit.value)


def _scalar(text: Raw) -> Any:
    if FLOAT_PATTERN.fullmatch(text):
        return float(text)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return str(text)
    return value if isinstance(value, int | float | bool | list | None) else str(text)


def leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The scalar and list leaves of a nested value, each with its path. An empty map is a leaf."""
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from leaves((*path, *str(key).split(".")), child)
    else:
        yield path, value


def is_nothing(value: Any) -> bool:
    """Whether a value asks for nothing (null or false), which is always accepted."""
    if isinstance(value, Raw):
        return value.strip().lower() in {"null", "none", "false", "~", ""}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return not value
    return value is None or value is False


def is_null(text: Raw) -> bool:
    """Whether text that was typed means null, where text is not what is wanted."""
    return text in {"null", "None"}


def leaves_it_to_us(value: object) -> bool:
    """Whether a choice is `auto`, `off` or `manual`: what happens anyway where nothing is built."""
    return isinstance(value, str) and value.strip().lower() in {"auto", "off", "manual"}


def is_one_rank(value: object) -> bool:
    """Whether a degree of parallelism asks for a single rank, which is always accepted."""
    return str(value).strip() == "1" and value is not True


def setting_label(setting: Setting) -> str:
    """How a message names a setting: the flag, or the key and its place in the file."""
    place = setting.position
    return (
        f"{setting.name} ({place})" if place.line or place.file == "environment" else setting.name
    )
