"""The text of --help, from the flag table."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from cli.flags import Flag, Path, Table, table
from runtime import Runtime

USAGE = {
    "generate": "sglang generate --prompt TEXT [flags] [KEY=VALUE ...]",
    "serve": "sglang serve [MODEL] [flags] [KEY=VALUE ...]",
}
ABOUT = {
    "generate": "Make pictures or clips. Paths of written files go to stdout, all else to stderr.",
    "serve": "Serve a model over HTTP as OpenAI's images and videos. Without a model: the demo.",
}
KEYS = """\
Any setting can be written as KEY=VALUE: a config path (components.vae.path=DIR) or the name of a
flag (vae_path=DIR, height=256). Values are never interpolated. The command line goes over --config
files, these over the environment, that over the graph. `-` and `_` are the same in names."""
REMARKS = {"Sampling": " (a graph names those it does not take)"}
UNCONNECTED = "Known, but not connected in this version (null, false and 1 are accepted):"
WORDS = {"text": "TEXT", "int": "N", "float": "X", "seed": "N", "path": "PATH", "map": "JSON"}
COLUMN = 30  # where help texts begin


def command_help(command: str, width: int | None = None) -> str:
    """The help of a command, as wide as the terminal."""
    width = width or min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)
    known, consumed = table(), Runtime.consumed()
    lines = [f"usage: {USAGE[command]}", "", *textwrap.wrap(ABOUT[command], width)]
    groups: dict[str, list[Flag]] = {}
    later: list[Flag] = []
    for flag in known.flags:
        if command not in flag.commands:
            continue
        ready = is_connected(flag, consumed)
        (groups.setdefault(flag.group, []) if ready else later).append(flag)
    if "Model" in groups:
        groups["Model"] += [p for p in known.components.values() if is_connected(p, consumed)]
    for group, flags in groups.items():
        lines += ["", f"{group}{REMARKS.get(group, '')}:"]
        for flag in flags:
            lines += _lines(flag, width)
    lines += ["", *textwrap.wrap(" ".join(KEYS.split()), width)]
    lines += _listed(UNCONNECTED, (flag.name for flag in later), width)
    lines += _listed("Environment:", _variables(known, consumed), width)
    return "\n".join(lines)


def is_connected(flag: Flag, consumed: Iterable[str]) -> bool:
    """Whether something in this version consumes a flag's path, or all that it sets besides."""
    if flag.own:
        return True
    paths = [flag.path, *flag.also] if flag.path else list(flag.also)
    heads = [tuple(path.split(".")) for path in consumed]
    return all(any(_below(path, head) for head in heads) for path in paths)


def _below(path: Path, head: Path) -> bool:
    return len(head) <= len(path) and all(
        a == b or "*" in (a, b) for a, b in zip(path, head, strict=False)
    )


def _lines(flag: Flag, width: int) -> list[str]:
    """One flag: names, value, help; a narrow terminal wraps the help."""
    value = flag.metavar or WORDS.get(flag.type, "VALUE")
    if flag.choices:
        value = "|".join(flag.choices)
    value = "" if flag.type == "bool" else f" {value}{' ...' if flag.many else ''}"
    also = f" (also {', '.join(flag.aliases)})" if flag.aliases else ""
    left = f"  {flag.name}{value}"
    indent = " " * COLUMN
    text = textwrap.wrap(f"{flag.help}{also}", max(width - COLUMN, 20), break_on_hyphens=False)
    if len(left) + 2 > COLUMN:
        return [left, *(indent + line for line in text)]
    return [left.ljust(COLUMN) + text[0], *(indent + line for line in text[1:])]


def _listed(title: str, names: Iterable[str], width: int) -> list[str]:
    text = "  ".join(names)
    inside = textwrap.wrap(
        text,
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return ["", title, *inside] if text else []


def _variables(known: Table, consumed: Iterable[str]) -> list[str]:
    heads = [tuple(path.split(".")) for path in consumed]
    return [v.name for v in known.variables if any(_below(v.path, head) for head in heads)]
