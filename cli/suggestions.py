"""What somebody meant who wrote a flag, a key or a word that is none. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from cli.flag import Flag
from cli.flags import Table, flat_name, nearest_name
from cli.help import is_connected
from cli.messages import flag_of, words_of
from runtime import Runtime
from runtime.graph.request_fields import fields_of
from runtime.settings.common_names import SIZE_NAMES, common_option

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic")
CLIP_SUFFIXES = (".mp4", ".gif", ".mov", ".webm", ".mkv", ".avi")
SIZED = {
    "generate": "a size is two flags: `--width 128 --height 128`",
    "serve": "a size is two settings: `request.width=128 request.height=128`",
}


def for_flag(table: Table, typed: str, command: str, graph: str = "") -> str:
    """The help for a flag that is not there: a flag that this command and this graph take."""
    name = flat_name(typed)
    if name in SIZE_NAMES:
        return SIZED[command]
    option = common_option(typed)
    if option:
        path, _, value = option.partition("=")
        flag = flag_of(table, path, value or None, command)
        return f"did you mean `{words_of(flag, value or None) if flag else f'{path}='}`?"
    flags = list(useful(table, command, graph))
    spellings = {name: flag for flag in flags for name in (flag.name, *flag.aliases)}
    best = nearest_name(typed.replace("_", "-"), spellings, cutoff=0.7)
    if best:
        return f"did you mean `{best}`?"
    later = [f.name for f in table.flags if f.name.startswith(f"{typed}-") and f not in flags]
    if later:
        return f"`{later[0]}` is known, but not connected in this version"
    return f"see `sglang {command} --help`"


def for_key(table: Table, name: str) -> str:
    """The help for a key that is not there; a flag's flat name is a key too."""
    option = common_option(name)
    if option:
        path, _, value = option.partition("=")
        flag = flag_of(table, path, value or None, "generate")
        key = flat_name(flag.name) if flag and flag.path and not flag.negated else path
        return f"did you mean `{key}={value}`?" if value else f"did you mean `{key}`?"
    if flat_name(name) in SIZE_NAMES:
        return "a size is two settings: width=128 height=128"
    best = nearest_name(name.replace("-", "_"), [*table.names, *table.roots])
    return f"did you mean `{best}`?" if best else "a field of the graph's request is request.NAME"


def for_word(table: Table, word: str, command: str) -> str:
    """The help for a word that is neither a flag nor KEY=VALUE."""
    path, quoted = Path(word), shlex.quote(word)
    if flat_name(word) in table.names:
        return f"write {word}=VALUE, or --{word} VALUE"
    suffix = path.suffix.lower()
    if command == "serve":
        return f"a model is written --model-path {quoted}; a setting is KEY=VALUE"
    if suffix in (".yaml", ".yml", ".json"):
        return f"a config file is written --config {quoted}, a graph --graph {quoted}"
    if suffix in PICTURE_SUFFIXES:
        return f"an input picture is written --image-path {quoted}"
    if suffix in CLIP_SUFFIXES:
        return f"an input clip is written --video-path {quoted}"
    is_model = path.is_dir() or (word.count("/") == 1 and " " not in word)
    if is_model:
        return f"a model is written --model-path {quoted}"
    if " " in word or not word.isascii():
        return f'a prompt is written --prompt "{word if len(word) <= 60 else f"{word[:57]}..."}"'
    return 'a prompt is written --prompt "TEXT", in quotes; a setting is KEY=VALUE'


def for_command(words: Iterable[str]) -> str:
    """The help for a first word that is no command: the text of a prompt, another tool's verb."""
    first, *rest = words
    meant = COMMON_COMMANDS.get(first.lower(), "")
    if meant:
        return meant
    return f'sglang generate --prompt "{first}"' if " " in first and not rest else ""


# What other programs call the commands.
COMMON_COMMANDS = {
    **dict.fromkeys(
        ("run", "gen", "create", "draw", "image", "video", "txt2img", "t2i", "t2v", "sample"),
        'did you mean `sglang generate --prompt "TEXT"`?',
    ),
    **dict.fromkeys(("server", "start", "launch", "launch_server", "api"), "did you mean `serve`?"),
    **dict.fromkeys(("list", "models", "ls", "nodes", "families"), "did you mean `graphs`?"),
    **dict.fromkeys(("info", "show", "metadata"), "did you mean `inspect FILE`?"),
    **dict.fromkeys(
        ("visualize", "draw-graph", "graph", "plan"), "python -m runtime.visualize shows graphs"
    ),
    "verify": "did you mean `graphs verify`?",
}


def useful(table: Table, command: str, graph: str = "") -> Iterable[Flag]:
    """The flags that do something: of this command, in this version, in the graph that is named."""
    consumed, fields = Runtime.consumed(), fields_of(graph)
    for flag in table.flags:
        of_other_graphs = fields and flag.path[:1] == ("request",) and flag.path[1] not in fields
        if command in flag.commands and is_connected(flag, consumed) and not of_other_graphs:
            yield flag
