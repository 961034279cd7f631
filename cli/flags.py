"""All flags: those of flags.yaml and the request fields of graphs. Imports no torch.

Every flag is a name for a config path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from cli.flag import Flag, Path
from cli.request_flags import request_flags
from runtime.errors import nearest


@dataclass(frozen=True)
class Variable:
    """One environment variable. needs: read only when that variable is on."""

    name: str
    path: Path
    type: str = "text"
    needs: str = ""


@dataclass(frozen=True)
class Table:
    """All flags by every spelling of their names.

    flags       in the order of --help
    names       flat name (`model_path`), aliases included, to flag
    components  suffix of a component's flag (`_weights_path`) to its pattern
    roots       first words of config paths
    first       the flags that --help of a command begins with
    """

    flags: tuple[Flag, ...]
    names: Mapping[str, Flag]
    components: Mapping[str, Flag]
    roots: frozenset[str]
    variables: tuple[Variable, ...]
    first: Mapping[str, Sequence[str]]

    def spellings(self) -> list[str]:
        """Every flag and alias as listed."""
        return [name for flag in self.flags for name in (flag.name, *flag.aliases)]


def flat_name(name: str) -> str:
    """The key of a flag: `--sp-size`, `sp-size` and `sp_size` are one."""
    return name.removeprefix("--").replace("-", "_")


def nearest_name(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The name most like `name`, or nothing."""
    return next(iter(nearest(name, names, cutoff=cutoff)), "")


@cache
def flag_table(graph: str = "") -> Table:
    """The table of all flags. graph: name or file of a graph whose request fields are flags too."""
    text = resources.files("conf").joinpath("flags.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it was built in
    data = yaml.load(text, Loader=loader)
    listed = [
        _flag(name, group, attributes)
        for group, members in data["flags"].items()
        for name, attributes in members.items()
    ]
    taken = {flat_name(name) for flag in listed for name in (flag.name, *flag.aliases)}
    fields = [f for f in request_flags(data["request"], graph) if flat_name(f.name) not in taken]
    flags = tuple(_by_group([*fields, *listed]))
    names = {flat_name(name): flag for flag in flags for name in (flag.name, *flag.aliases)}
    components = {
        f"_{flat_name(suffix)}": _flag(f"--<component>-{suffix}", "Model", attributes)
        for suffix, attributes in data["components"].items()
    }
    variables = tuple(
        Variable(
            name,
            _path(attributes["path"]),
            attributes.get("type", "text"),
            attributes.get("needs", ""),
        )
        for name, attributes in data["environment"].items()
    )
    paths = [flag.path for flag in (*flags, *components.values())] + [v.path for v in variables]
    roots = {path[0] for path in paths if path and path[0] != "cli"} | set(data["roots"])
    return Table(flags, names, components, frozenset(roots), variables, data["first"])


def _by_group(flags: Iterable[Flag]) -> list[Flag]:
    """The flags, sorted so that those of a group are together."""
    groups: dict[str, list[Flag]] = {}
    for flag in flags:
        groups.setdefault(flag.group, []).append(flag)
    return [flag for members in groups.values() for flag in members]


def _flag(name: str, group: str, attributes: Mapping[str, Any]) -> Flag:
    listed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in attributes.items()
        if key not in {"path", "also"}
    }
    also = {_path(path): value for path, value in attributes.get("also", {}).items()}
    return Flag(name=name, group=group, path=_path(attributes.get("path", "")), also=also, **listed)


def _path(dotted: str) -> Path:
    return tuple(dotted.split(".")) if dotted else ()
