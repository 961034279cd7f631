"""Keys to config paths: flags, `key=value` and config files name settings in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache
from importlib import resources
from typing import Any

from cli.flag import Flag, Path
from cli.flags import Table, flat_name, nearest_name
from cli.suggestions import for_key
from runtime import Position, Raw, Setting, UserError

BOOLEAN_WORDS = {"true": True, "false": False}
EXAMPLES = {"path": "folder", "weights_path": "folder", "dtype": "fp32"}  # of a component's setting


def find(table: Table, segments: Path) -> Flag | None:
    """The flag behind a key, its path filled in: `vae_path`, `component_paths.vae`, `sp_size`.

    None where the key is no flag's name; it may be a full config path then.
    """
    head, rest = segments[0].replace("-", "_"), segments[1:]
    flag = table.names.get(head)
    if flag and rest:
        return _inside(flag, rest) if flag.type in {"map", "config"} else None
    return flag if flag or rest else of_component(table, head)


def of_component(table: Table, key: str) -> Flag | None:
    """The flag made from a component's name: `vae_path` is components.vae.path."""
    for suffix, pattern in table.components.items():
        name = key.removesuffix(suffix)
        if name != key and name and not _is_typo(table, key, suffix):
            return replace(pattern, path=_fill(pattern.path, (name,)))
    return None


def path_of(table: Table, segments: Path) -> Path:
    """The full config path that a key spells; an unknown one is returned as it is."""
    flag = find(table, segments)
    if flag:
        return flag.path
    keep = 3 if segments[0] == "components" else 2  # below that, names are the checkpoint's own
    return tuple(s.replace("-", "_") for s in segments[:keep]) + segments[keep:]


def is_known(table: Table, segments: Path) -> bool:
    """Whether a key can name a setting: it is a flag's name, or a path below a root."""
    return find(table, segments) is not None or segments[0].replace("-", "_") in table.roots


def seems_key(table: Table, segments: Sequence[str]) -> bool:
    """Whether a word of a list looks like a key, known or misspelt, and not like a value."""
    head = segments[0].replace("-", "_")
    names = table.names if len(segments) == 1 else [*table.names, *table.roots]
    return is_known(table, tuple(segments)) or bool(nearest_name(head, names, cutoff=0.8))


def unknown(table: Table, name: str, position: Position) -> UserError:
    """The error for a key that names no setting."""
    place = f"{position}  " if position.line else ""
    return UserError(f"{place}there is no setting `{name}`", help=for_key(table, name), field=name)


def flag_settings(flag: Flag, value: Any, name: str, position: Position) -> Iterator[Setting]:
    """The settings that a flag with a value stands for; a mapping gives one per leaf."""
    if flag.type == "bool":
        value = _word(value)
        used = value is not None and value is not False
        if flag.negated and isinstance(value, bool):
            value = not value
        elif value is True:
            value = flag.value
    else:
        used = value is not None
    if flag.type == "map":
        yield from _leaves(flag, value, name, position)
    elif flag.path:
        yield Setting(_group(value, name) or flag.path, value, name, position)
    elif not isinstance(value, bool | None):
        raise UserError(f'{name} is true or false, got "{value}"', field=flat_path(flag))
    if used:
        for path, extra in flag.also.items():
            label = (
                name if flag.path else f"{name} ({path[-1]})"
            )  # `--720p` sets two fields: name the one at fault
            yield Setting(path, extra, label, position)


def flat_path(flag: Flag) -> str:
    """The dotted path of a flag, or its name where it has none."""
    return ".".join(flag.path) or flag.name


def _group(value: Any, name: str) -> Path:
    """The policy group with the name of the flag, where the value is an option of that group.

    `precision=all_float32` chooses conf/precision/all_float32.yaml; `precision=bf16` is a dtype.
    """
    group = flat_name(name)
    if not isinstance(value, str) or value not in _options(group):
        return ()
    return (group,)


@cache
def _options(group: str) -> frozenset[str]:
    """Names of the options in conf/GROUP; none where there is no such group."""
    folder = resources.files("conf").joinpath(group)
    if not group.isidentifier() or not folder.is_dir():
        return frozenset()
    return frozenset(f.name.removesuffix(".yaml") for f in folder.iterdir())


def _leaves(flag: Flag, value: Any, name: str, position: Position) -> Iterator[Setting]:
    if value is None:
        return
    listed = value if isinstance(value, list) else [value]
    if "*" not in flag.path and flag.many and all(not isinstance(x, Mapping) for x in listed):
        value = dict(pair for word in listed for pair in _pairs(word, name, flag).items())
    elif isinstance(value, str):
        value = _pairs(value, name, flag)
    if not isinstance(value, Mapping):
        raise UserError(f"{name} expects a JSON object, got `{value}`", field=flat_path(flag))
    for key, child in value.items():
        yield from _nested(flag, tuple(str(key).split(".")), child, name, position)


def _nested(flag: Flag, keys: Path, value: Any, name: str, at: Position) -> Iterator[Setting]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _nested(flag, (*keys, *str(key).split(".")), child, name, at)
    else:
        yield Setting(_fill(flag.path, keys), value, name, at)


def _pairs(text: str, name: str, flag: Flag) -> Mapping[str, Any]:
    """A JSON object, or `a=b,c=d`."""
    if not text.lstrip().startswith("{"):
        parts = [part.partition("=") for part in text.split(",") if part.strip()]
        if any(not equals or not key.strip() for key, equals, _ in parts):
            raise UserError(
                f'{name} expects a JSON object or a=b,c=d, got "{text}"', field=flat_path(flag)
            )
        return {key.strip(): Raw(value.strip()) for key, _, value in parts}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as problem:
        raise UserError(
            f"{name} is not valid JSON: {problem.msg} at character {problem.pos + 1}",
            help=f'an example: \'{{"vae": "{EXAMPLES.get(flag.path[-1], "value")}"}}\'',
            field=flat_path(flag),
        ) from None  # fmt: skip
    return dict(value)


def _inside(flag: Flag, rest: Path) -> Flag:
    """The flag of one entry of a map."""
    path = _fill(flag.path, rest)
    return replace(flag, path=path, type="text", name=f"{flag.name}.{'.'.join(rest)}")


def _fill(pattern: Path, keys: Path) -> Path:
    """A path pattern whose `*` is replaced by the first key; the other keys are appended."""
    if "*" not in pattern:
        return (*pattern, *keys)
    at = pattern.index("*")
    component = keys[0].replace("-", "_")
    return (*pattern[:at], component, *pattern[at + 1 :], *keys[1:])


def _is_typo(table: Table, key: str, suffix: str) -> bool:
    """Whether `ouput_path` is a flag misspelt rather than the path of a component."""
    stem = key.removesuffix(suffix)
    others = (
        name.removesuffix(suffix)
        for name, flag in table.names.items()
        if name.endswith(suffix) and flag.path[:1] != ("components",)
    )
    return any(SequenceMatcher(None, stem, other).ratio() > 0.8 for other in others)


def _word(value: Any) -> Any:
    return BOOLEAN_WORDS.get(value.strip().lower(), value) if isinstance(value, Raw) else value
