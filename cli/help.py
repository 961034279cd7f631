"""The text of --help, from the flag table and the request fields of the graph that is to run."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cli.flag import Flag, Path
from cli.flags import Table, flag_table, nearest_name
from runtime import Runtime, UserError
from runtime.graph.model import Graph
from runtime.settings.field import Field, plain_number

USAGE = {
    "generate": "sglang generate --prompt TEXT [flags] [KEY=VALUE ...]",
    "serve": "sglang serve [MODEL] [flags] [KEY=VALUE ...]",
}
ABOUT = {
    "generate": "Make pictures or clips. Paths of written files go to stdout, all else to stderr.",
    "serve": "Serve a model over HTTP as OpenAI's images and videos. Without a model: the demo.",
}
KEYS_HELP = """\
Any setting can be written as KEY=VALUE: a config path (components.vae.path=DIR) or the name of a
flag (vae_path=DIR, height=256). Values are never interpolated. The command line overrides --config
files, these override the environment, and that overrides the graph. Names may have `-` or `_`."""
UNCONNECTED = "Known, but not connected in this version (null, false and 1 are accepted):"
METAVAR_OF_TYPE = {
    "text": "TEXT",
    "int": "N",
    "float": "X",
    "seed": "N",
    "path": "PATH",
    "map": "JSON",
}
COLUMN = 30  # where help texts begin
ALL = "all"


@dataclass(frozen=True)
class Chosen:
    """The graph that would run. named: by the call, or by its model; else it is the default."""

    graph: Graph
    named: bool = False


def command_help(
    command: str, page: str = "", chosen: Chosen | None = None, width: int | None = None
) -> str:
    """The help of a command, as wide as the terminal.

    page    `all`, or the name of a group; empty for the flags that most people need
    chosen  the graph whose fields are described; without one, those of every graph are
    """
    width = width or min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)
    known = flag_table(str(chosen.graph.sources[-1]) if chosen and chosen.graph.sources else "")
    flags = [flag for flag in known.flags if command in flag.commands]
    groups, later = _groups(flags, known)
    if page and page != ALL:
        return "\n".join(_group(groups, page, chosen, width))
    lines = [f"usage: {USAGE[command]}", "", *textwrap.wrap(ABOUT[command], width), ""]
    if not page:
        listed = [flag for name in known.first[command] for flag in flags if flag.name == name]
        first, _ = _split(listed, chosen)
        return "\n".join(
            [*lines, *_flags(first, chosen, width), *_more(command, groups, chosen, width)]
        )
    for group in groups:
        lines += [*_group(groups, group, chosen, width), ""]
    lines += textwrap.wrap(" ".join(KEYS_HELP.split()), width)
    lines += _listed(UNCONNECTED, (flag.name for flag in later), width)
    lines += _listed("Environment:", _variables(known, Runtime.consumed()), width)
    return "\n".join(lines)


def _groups(flags: Sequence[Flag], known: Table) -> tuple[dict[str, list[Flag]], list[Flag]]:
    """Flags by group, and the flags that nothing in this version consumes."""
    consumed = Runtime.consumed()
    groups: dict[str, list[Flag]] = {}
    later: list[Flag] = []
    for flag in flags:
        ready = is_connected(flag, consumed)
        (groups.setdefault(flag.group, []) if ready else later).append(flag)
    if "Model" in groups:
        groups["Model"] += [p for p in known.components.values() if is_connected(p, consumed)]
    return groups, later


def _group(
    groups: Mapping[str, Sequence[Flag]], page: str, chosen: Chosen | None, width: int
) -> list[str]:
    """One group, found by any word of its name: `memory` is Memory and placement."""
    words = {word: g for g in groups for word in (g.lower(), *g.lower().split()) if word != "and"}
    name = words.get(page.lower()) or words.get(nearest_name(page.lower(), words))
    if name is None:
        raise UserError(
            f"there is no group of flags `{page}`",
            help=f"--help takes one of: {', '.join(g.split()[0].lower() for g in groups)}",
        )
    taken, others = _split(groups[name], chosen)
    lines = [f"{name}:", *_flags(taken, chosen, width)]
    if others and chosen and chosen.named:
        title = f"Graph `{chosen.graph.name}` does not take:"
        lines += _listed(title, (flag.name for flag in others), width)
    elif others:
        lines += ["", f"{name}, taken by other graphs:", *_flags(others, None, width)]
    return lines


def _split(flags: Iterable[Flag], chosen: Chosen | None) -> tuple[list[Flag], list[Flag]]:
    """Flags that the graph takes, and those of other graphs."""
    taken: list[Flag] = []
    others: list[Flag] = []
    for flag in flags:
        (taken if chosen is None or is_taken(flag, chosen.graph) else others).append(flag)
    return taken, others


def _flags(flags: Iterable[Flag], chosen: Chosen | None, width: int) -> list[str]:
    """The lines of flags, described by the graph where they are its fields."""
    lines: list[str] = []
    for flag in flags:
        field = chosen.graph.request.get(flag.path[1]) if chosen and _is_field(flag) else None
        lines += _lines(_described(flag, field), width)
    return lines


def _more(command: str, groups: Iterable[str], chosen: Chosen | None, width: int) -> list[str]:
    """The last paragraph of the short help: how to see the other flags."""
    names = ", ".join(group.split()[0].lower() for group in groups)
    graph = f"Defaults are those of graph `{chosen.graph.name}`. " if chosen else ""
    height = "height=256" if command == "generate" else "request.height=256"
    text = (
        f"{graph}--graph NAME --help and --model-path MODEL --help describe other graphs. "
        f"--help GROUP shows a group ({names}), --help-all shows all. "
        f"Any setting can be written as KEY=VALUE too: {height}, components.vae.path=DIR."
    )
    return ["", *textwrap.wrap(text, width, break_on_hyphens=False)]


def _is_field(flag: Flag) -> bool:
    return flag.path[:1] == ("request",)


def is_taken(flag: Flag, graph: Graph) -> bool:
    """Whether a graph has the request fields that a flag sets; other flags are no field's."""
    paths = [flag.path] if flag.path else list(flag.also)
    fields = [path[1] for path in paths if path[0] == "request"]
    return all(name in graph.request for name in fields)


def _described(flag: Flag, field: Field | None) -> Flag:
    """The flag with the help, the default and the limits of the graph's field."""
    if field is None:
        return flag
    limits = []
    if field.min is not None and field.max is not None:
        limits.append(f"{plain_number(field.min)} to {plain_number(field.max)}")
    elif field.min is not None:
        limits.append(f"at least {plain_number(field.min)}")
    elif field.max is not None:
        limits.append(f"at most {plain_number(field.max)}")
    if (field.multiple or 1) > 1:
        limits.append(field.rule)
    if field.required:
        limits.append("required")
    elif field.default not in (None, "", ()):
        limits.append(f"default {_default_text(field.default)}")
    tail = f" ({', '.join(limits)})" if limits else ""
    return replace(flag, help=f"{field.help or flag.help}{tail}")


def _default_text(default: object) -> str:
    listed = default if isinstance(default, tuple) else (default,)
    texts = [str(x).lower() if isinstance(x, bool) else str(x) for x in listed]
    return textwrap.shorten(" ".join(texts), 40, placeholder=" ...")


def is_connected(flag: Flag, consumed: Iterable[str]) -> bool:
    """Whether something in this version consumes a flag's path, or the other paths that it sets."""
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
    value = flag.metavar or METAVAR_OF_TYPE.get(flag.type, "VALUE")
    if flag.choices:
        value = "|".join(flag.choices)
    value = "" if flag.type == "bool" else f" {value}{' ...' if flag.many else ''}"
    also = f" (also {', '.join(flag.aliases)})" if flag.aliases else ""
    left = f"  {flag.name}{value}"
    indent = " " * COLUMN
    text = textwrap.wrap(f"{flag.help}{also}", max(width - COLUMN, 20), break_on_hyphens=False)
    if len(left) + 2 > COLUMN or not text:
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
