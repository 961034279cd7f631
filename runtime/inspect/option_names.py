"""Names of an option: a flag, a config path, or a bare word, each to the config path behind it.

`conf/flags.yaml` names the paths that are no request fields; the command line reads the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime.errors import UserError, did_you_mean
from runtime.graph import catalog
from runtime.graph.model import Graph
from runtime.graph.parse import COMPONENT
from runtime.graph.request_fields import request_fields
from runtime.settings.policies import policy_fields
from runtime.settings.setting import Setting


@dataclass(frozen=True)
class Option:
    """A config path, the flags that name it, and what the table says of them.

    sets  text of the value that a flag such as --720p gives
    """

    path: str
    flags: tuple[str, ...] = ()
    help: str = ""
    sets: str = ""


def options_of(name: str, graph: Graph, components: Sequence[str]) -> list[Option]:
    """What an option's name stands for; a UserError where nothing is called so."""
    flat = name.removeprefix("--").replace("-", "_")
    listed = option_table()
    if flat in listed:
        return _of_flag(listed[flat])
    path = _path(flat, name, graph, components)
    if path is None:
        known = [f"--{n.replace('_', '-')}" for n in listed]
        near = did_you_mean(f"--{flat.replace('_', '-')}", known)
        bare = "" if name.startswith("--") else did_you_mean(name, _paths(graph, components))
        raise UserError(
            f"there is no option `{name}`", field="--explain",
            help=bare or near or "give a flag such as --height, or a path such as request.height",
        )  # fmt: skip
    named = [flag for flag in dict.fromkeys(map(_key, listed.values())) if flag[1] == path]
    if not named and (own := _component_flag(path)):
        named = [(own, path, "")]
    return [Option(path, tuple(n for n, _, _ in named), named[0][2] if named else "")]


@cache
def option_table() -> Mapping[str, Mapping[str, Any]]:
    """Every flag by its flat name, aliases included: `name`, `path`, `help` and `also`."""
    table_file = catalog.read_yaml(catalog.packaged("conf") / "flags.yaml")
    found: dict[str, Mapping[str, Any]] = {}
    aliases = table_file.get("request", {}).get("aliases", {})
    for field, declared in request_fields().items():
        name, help = f"--{field.replace('_', '-')}", str(declared[0].get("help") or "")
        row = {"help": help, "path": f"request.{field}", "also": {}, "name": name}
        for spelling in (name, *aliases.get(field, ())):
            found[spelling.removeprefix("--").replace("-", "_")] = row
    for listed in table_file.get("flags", {}).values():
        for name, row_in_file in listed.items():
            row = {"help": "", "path": "", "also": {}, **row_in_file, "name": name}
            for spelling in (name, *row_in_file.get("aliases", ())):
                found[spelling.removeprefix("--").replace("-", "_")] = row
    return found


def _of_flag(row: Mapping[str, Any]) -> list[Option]:
    help = str(row["help"])
    if row["path"]:
        return [Option(str(row["path"]), (str(row["name"]),), help)]
    return [
        Option(str(path), (str(row["name"]),), help, str(value))
        for path, value in row["also"].items()
    ]


def _key(row: Mapping[str, object]) -> tuple[str, str, str]:
    return str(row["name"]), str(row["path"]), str(row["help"])


def _path(flat: str, name: str, graph: Graph, components: Sequence[str]) -> str | None:
    """The config path of a name that is no flag of the table."""
    plain = name.removeprefix("--")
    heads = {"request", "components", "nodes", "outputs", *policy_fields()}
    if "." in plain and plain.split(".")[0] in heads:
        return plain
    if flat in graph.request:
        return f"request.{flat}"
    for suffix, attribute in _suffixes().items():
        if flat.endswith(suffix) and flat.removesuffix(suffix) in components:
            return f"components.{flat.removesuffix(suffix)}.{attribute}"
    return flat if flat == "graph" or flat in policy_fields() else None


@cache
def _suffixes() -> dict[str, str]:
    """Ends of a component's flags: `_path` to `path`, `_precision` to `dtype`, ..."""
    suffixes = catalog.read_yaml(catalog.packaged("conf") / "flags.yaml").get("components", {})
    return {
        f"_{suffix.replace('-', '_')}": row_in_file["path"].removeprefix("components.*.")
        for suffix, row_in_file in suffixes.items()
    }


def _component_flag(path: str) -> str:
    head, *rest = path.split(".")
    if head != "components" or len(rest) < 2:
        return ""
    ends = [suffix for suffix, attribute in _suffixes().items() if attribute == ".".join(rest[1:])]
    return f"--{rest[0]}{ends[0]}".replace("_", "-") if ends else ""


def _paths(graph: Graph, components: Sequence[str]) -> list[str]:
    policies = [f"{g}.{f}" for g, fields in policy_fields().items() for f in fields]
    parts = [f"components.{c}.{a}" for c in components for a in COMPONENT]
    return [*(f"request.{n}" for n in graph.request), *parts, *policies]


def without(settings: Sequence[Setting], path: str) -> list[Setting]:
    """The settings that say nothing of a path."""
    return [s for s in settings if s.dotted != path and not s.dotted.startswith(f"{path}.")]
