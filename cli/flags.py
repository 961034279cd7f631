"""The flag table of flags.yaml: every flag is a name for a config path. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

import yaml

Path = tuple[str, ...]


@dataclass(frozen=True)
class Flag:
    """One flag: the fields are those that flags.yaml explains.

    name   as listed, `--model-path`
    group  its section of --help
    path   where its value goes; empty: nowhere but `also`
    """

    name: str
    group: str
    path: Path
    type: str = "text"
    many: bool = False
    append: bool = False
    value: Any = True
    negated: bool = False
    also: Mapping[Path, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    commands: tuple[str, ...] = ("generate", "serve")
    metavar: str = ""
    help: str = ""

    @property
    def server_only(self) -> bool:
        """Whether only a server uses it."""
        return self.commands == ("serve",)

    @property
    def own(self) -> bool:
        """Whether the command line itself uses it, so that no config path stands behind it."""
        return self.path[:1] == ("cli",)


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
    """

    flags: tuple[Flag, ...]
    names: Mapping[str, Flag]
    components: Mapping[str, Flag]
    roots: frozenset[str]
    variables: tuple[Variable, ...]

    def spellings(self) -> list[str]:
        """Every flag and alias as listed."""
        return [name for flag in self.flags for name in (flag.name, *flag.aliases)]


def flat(name: str) -> str:
    """The key of a flag: `--sp-size`, `sp-size` and `sp_size` are one."""
    return name.removeprefix("--").replace("-", "_")


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The name most like `name`, or nothing."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=cutoff)), "")


@cache
def table() -> Table:
    """Read flags.yaml."""
    text = resources.files("cli").joinpath("flags.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it was built in
    data = yaml.load(text, Loader=loader)
    flags = tuple(
        _flag(name, group, said)
        for group, listed in data["flags"].items()
        for name, said in listed.items()
    )
    names = {flat(name): flag for flag in flags for name in (flag.name, *flag.aliases)}
    components = {
        f"_{flat(suffix)}": _flag(f"--<component>-{suffix}", "Model", said)
        for suffix, said in data["components"].items()
    }
    variables = tuple(
        Variable(name, _path(said["path"]), said.get("type", "text"), said.get("needs", ""))
        for name, said in data["environment"].items()
    )
    paths = [flag.path for flag in (*flags, *components.values())] + [v.path for v in variables]
    roots = {path[0] for path in paths if path and path[0] != "cli"} | set(data["roots"])
    return Table(flags, names, components, frozenset(roots), variables)


def _flag(name: str, group: str, said: Mapping[str, Any]) -> Flag:
    listed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in said.items()
        if key not in {"path", "also"}
    }
    also = {_path(path): value for path, value in said.get("also", {}).items()}
    return Flag(name=name, group=group, path=_path(said.get("path", "")), also=also, **listed)


def _path(dotted: str) -> Path:
    return tuple(dotted.split(".")) if dotted else ()
