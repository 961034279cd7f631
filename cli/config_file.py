"""Config files, JSON or YAML: nested or dotted keys, flat flag names too, each with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import WHITESPACE, scanstring  # type: ignore[attr-defined]  # typeshed lists neither
from pathlib import Path
from typing import Any

import yaml

from cli.flags import flag_table
from cli.parser import CommandLine, take_entry
from runtime import Position, Raw, UserError

SUFFIXES = (".json", ".yaml", ".yml")
NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
KNOWN_TAGS = frozenset(
    f"tag:yaml.org,2002:{t}"
    for t in ("null", "str", "bool", "int", "float", "timestamp", "seq", "map", "merge", "value")
)


@dataclass(frozen=True)
class ConfigEntry:
    """One leaf of a file. keys: the way to it."""

    keys: tuple[str, ...]
    value: Any
    position: Position


def read_config(file: str, into: CommandLine, command: str = "generate") -> None:
    """Add a file's settings to `into`; a UserError names file, line, column and key."""
    path = Path(file).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"--config {file}: a config file is JSON or YAML",
            help=f"its name must end in {', '.join(SUFFIXES)}", field="config",
        )  # fmt: skip
    text = _text(path, file)
    read = _json_entries if path.suffix.lower() == ".json" else _yaml_entries
    try:
        entries = list(read(text, file))
    except RecursionError:
        raise _wrong("nested too deeply, or contains itself", Position(file)) from None
    names: dict[tuple[str, ...], ConfigEntry] = {}
    for entry in entries:
        before = len(into.settings)
        take_entry(
            flag_table(into.graph),
            into,
            (".".join(entry.keys), entry.value),
            entry.position,
            command,
        )
        for setting in into.settings[before:]:
            earlier = names.setdefault(setting.path, entry)
            if earlier is not entry:
                raise _twice(entry, earlier)


def _text(path: Path, file: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UserError(
            f"--config {file}: byte {problem.start + 1} is not UTF-8",
            help="save the file as UTF-8 text", field="config",
        ) from None  # fmt: skip
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise UserError(f"--config {file}: {reason}", field="config") from None


def _twice(entry: ConfigEntry, earlier: ConfigEntry) -> UserError:
    key, other = ".".join(entry.keys), ".".join(earlier.keys)
    what = f"`{key}` is given twice" if key == other else f"`{key}` and `{other}` are one setting"
    return UserError(
        f"{entry.position}  {what}", help=f"the first is at {earlier.position}; keep one", field=key
    )


def _wrong(message: str, position: Position, help: str = "") -> UserError:
    return UserError(f"{position}  {message}", help=help, field="config")


def _yaml_entries(text: str, file: str) -> Iterator[ConfigEntry]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        at = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file)
        reason = getattr(problem, "problem", None) or str(problem).split("\n", maxsplit=1)[0]
        raise _wrong(f"not valid YAML: {reason}", at) from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise _wrong("a config file holds `key: value` lines", _place(root, file))
    yield from _yaml_members(root, (), file)


def _yaml_members(
    node: yaml.MappingNode, above: tuple[str, ...], file: str
) -> Iterator[ConfigEntry]:
    _check_tag(node, file)
    seen: dict[str, Position] = {}
    for key_node, child in node.value:
        at = _place(key_node, file)
        if key_node.tag == MERGE:
            raise _wrong("merge keys (`<<`) are not supported", at, "write the keys out")
        if not isinstance(key_node, yaml.ScalarNode):
            raise _wrong("a key is plain text here", at)
        _check_tag(key_node, file)
        key = str(key_node.value)
        if key in seen:
            raise _twice(
                ConfigEntry((*above, key), None, at), ConfigEntry((*above, key), None, seen[key])
            )
        seen[key] = at
        keys = (*above, *key.split("."))
        if isinstance(child, yaml.MappingNode):
            yield from _yaml_members(child, keys, file)
        else:
            yield ConfigEntry(keys, _yaml_value(child, file), at)


def _yaml_value(node: yaml.Node, file: str) -> Any:
    """Null is None, quoted text is text, and plain text is `Raw`: its field decides."""
    _check_tag(node, file)
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(child, file) for child in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs = [(key, child) for key, child in node.value]
        for key, _ in pairs:
            if key.tag == MERGE:
                at = _place(key, file)
                raise _wrong("merge keys (`<<`) are not supported", at, "write the keys out")
            _check_tag(key, file)
        return {str(key.value): _yaml_value(child, file) for key, child in pairs}
    if node.tag == NULL:
        return None
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None  # '...', "...", | and >
    return str(node.value) if quoted else Raw(node.value)


def _check_tag(node: yaml.Node, file: str) -> None:
    """Refuse a tag such as !!python/object: dropping it would change what the author wrote."""
    if node.tag not in KNOWN_TAGS:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _wrong(f"the tag {tag} is not known here", _place(node, file), "leave the tag out")


def _place(node: yaml.Node, file: str) -> Position:
    return Position(file, node.start_mark.line + 1, node.start_mark.column + 1)


def _json_entries(text: str, file: str) -> Iterator[ConfigEntry]:
    try:
        root = json.loads(text)
    except json.JSONDecodeError as problem:
        at = Position(file, problem.lineno, problem.colno)
        raise _wrong(f"not valid JSON: {problem.msg}", at) from None
    if not isinstance(root, dict):
        raise _wrong("a config file holds one JSON object: {...}", Position(file, 1, 1))
    entries: list[ConfigEntry] = []
    _json_members((text, file), _skip(text, 0), (), entries)
    yield from entries


def _json_members(
    source: tuple[str, str], at: int, above: tuple[str, ...], into: list[ConfigEntry]
) -> int:
    """Add the members of the object that opens at `at` in valid text; where it ends."""
    text, file = source
    seen: dict[str, Position] = {}
    decoder = json.JSONDecoder()
    at = _skip(text, at + 1)
    while text[at] != "}":
        at = _skip(text, at + 1) if text[at] == "," else at
        start, (key, at) = at, scanstring(text, at + 1)
        line = text.count("\n", 0, start) + 1
        position = Position(file, line, start - text.rfind("\n", 0, start))
        if key in seen:
            raise _twice(
                ConfigEntry((*above, key), None, position),
                ConfigEntry((*above, key), None, seen[key]),
            )
        seen[key] = position
        keys = (*above, *key.split("."))
        at = _skip(text, _skip(text, at) + 1)
        if text[at] == "{":
            at = _json_members(source, at, keys, into)
        else:
            value, at = decoder.raw_decode(text, at)
            into.append(ConfigEntry(keys, value, position))
        at = _skip(text, at)
    return at + 1


def _skip(text: str, at: int) -> int:
    return int(WHITESPACE.match(text, at).end())
