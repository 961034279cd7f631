"""Options in messages: the command line writes the runtime's config paths as flags.

The runtime writes "add `request.height=64`"; a person who typed flags reads "add `--height 64`".
"""

from __future__ import annotations

import re
from dataclasses import replace

from cli.flag import Flag
from cli.flags import Table, flag_table

# `model.path`, `model.backend=diffusers`, `graph=demo`. A single word alone is no path, and a
# suggestion ("did you mean") for a misspelt path stays a path.
OPTION = re.compile(r"(?<!did you mean )`([a-z]\w*(?:\.\w+)*)(?:=([^`\n]*))?`")
SOURCE_PLACE = re.compile(r":\d+:\d+")  # a line about a place in a file quotes that file


def with_flags(text: str, command: str = "generate", graph: str = "") -> str:
    """A message whose config paths in backticks are written as the flags of a command.

    A path without a flag stays as it is, because KEY=VALUE sets it. Lines that name a place in a
    file stay too, because files have keys. graph: its request fields are flags too.
    """
    flags = flag_table(graph)

    def written(found: re.Match[str]) -> str:
        path, value = found[1], found[2]
        if "." not in path and value is None:
            return found[0]
        flag = flag_of(flags, path, value, command)
        return f"`{words_of(flag, value)}`" if flag else found[0]

    lines = text.split("\n")
    return "\n".join(x if SOURCE_PLACE.search(x) else OPTION.sub(written, x) for x in lines)


def field_name(path: str, command: str = "generate", graph: str = "") -> str:
    """The flag of a `UserError.field`; a path without one stays as it is."""
    flag = flag_of(flag_table(graph), path, None, command)
    return flag.name if flag else path


def flag_of(known: Table, path: str, value: str | None, command: str) -> Flag | None:
    """The flag that sets a config path, to `value` unless that is None; None where no flag does.

    If there are several, the first one: the table lists the usual name first.
    """
    keys = tuple(path.split("."))
    same = [f for f in known.flags if f.path == keys and command in f.commands and not f.own]
    if value == "false":
        same.sort(key=lambda flag: not flag.negated)
    elif value is not None:
        same = [flag for flag in same if not flag.negated]
    same.sort(key=lambda flag: (bool(flag.also), flag.value is not True))
    if same:
        return same[0]
    return _of_component(known, keys)


def _of_component(known: Table, keys: tuple[str, ...]) -> Flag | None:
    """`components.vae.path` is --vae-path, by the pattern of all components."""
    for suffix, pattern in known.components.items():
        head, tail = pattern.path[0], pattern.path[2:]
        if len(keys) > 2 and keys[0] == head and keys[2:] == tail:
            name = f"--{keys[1]}{suffix}".replace("_", "-")
            return replace(pattern, name=name, path=keys)
    return None


def words_of(flag: Flag, value: str | None) -> str:
    """The flag with its value, as it is typed."""
    if value is None or (flag.type == "bool" and value == ("false" if flag.negated else "true")):
        return flag.name
    spaced = " " in value and not value.startswith(('"', "'"))
    return f'{flag.name} "{value}"' if spaced else f"{flag.name} {value}"
