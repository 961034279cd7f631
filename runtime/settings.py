"""Settings: what a user asked for, before it has a type. Imports no torch.

A setting is a dotted path, a value as it was written, and where it was written. Later settings win.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import Position


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


def leaves_it_to_us(value: Any) -> bool:
    """Whether a choice is `auto`, `off` or `manual`: what happens anyway where nothing is built."""
    return isinstance(value, str) and value.strip().lower() in {"auto", "off", "manual"}


def is_one_rank(value: Any) -> bool:
    """Whether a degree of parallelism asks for a single rank, which is always accepted."""
    return str(value).strip() == "1" and value is not True


def shown(setting: Setting) -> str:
    """How a message names a setting: the flag, or the key and its place in the file."""
    place = setting.position
    return (
        f"{setting.name} ({place})" if place.line or place.file == "environment" else setting.name
    )
