"""Check graph files before Hydra reads them: YAML syntax, duplicate keys, and `defaults`.

Neither PyYAML's nor Hydra's own messages reach a user: every mistake has its place and its fix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from runtime.errors import GraphError, Position, Problem, did_you_mean, nearest
from runtime.graph import catalog
from runtime.graph.parse import TOP
from runtime.graph.source_positions import display_path

SELF = "_self_"
# PyYAML's problem (a pattern) to a message and what to write.
SYNTAX = (
    (r"cannot start any token", "a tab or another character that YAML does not allow begins here",
     "indent with spaces, and put text with special characters in quotes"),
    (r"mapping values are not allowed", "a second `:` in one line is not allowed here",
     "put the text in quotes, or check the indentation"),
    (r"expected ',' or '[\]}]'", "a bracket is not closed, or a comma is missing",
     "every { needs a }, every [ needs a ], with commas between the entries"),
    (r"end of stream", "the file ends inside a quoted text or a bracket", "close it"),
    (r"end of the line|quoted scalar", "a quoted text is not closed", "close the quotes"),
    (r"could not find expected ':'", "a key has no `:` after it", "write `key: value`"),
    (r"expected <block end>", "this line does not fit the lines above it",
     "give the entries of one map the same indentation"),
    (r"undefined alias", "this alias has no anchor", "write `&name` before its first use"),
    (r"duplicate anchor", "an anchor of this name exists already", "give it another name"),
    (r"constructor for the tag", "tags (`!name`) are not allowed", "write plain values"),
    (r"unhashable|hashable", "a map or a list cannot be a key", "write a name as the key"),
)  # fmt: skip


def check_syntax(path: Path, search: Sequence[Path]) -> None:
    """Check a graph file and all files that it extends; raises GraphError with every problem."""
    problems: list[Problem] = []
    for file in catalog.graph_files(path, search):
        problems += _file(file, (path.parent, *search))
    if problems:
        raise GraphError(path.stem, problems)


def _file(file: Path, folders: Sequence[Path]) -> Iterator[Problem]:
    """The problems of one file."""
    try:
        root = yaml.compose(file.read_text("utf-8"), yaml.SafeLoader)
        yaml.safe_load(file.read_text("utf-8"))
    except UnicodeDecodeError:
        yield Problem(Position(display_path(file)), "", "the file is not UTF-8 text",
                      "save it as UTF-8")  # fmt: skip
        return
    except yaml.YAMLError as problem:
        yield _not_yaml(file, problem)
        return
    if root is not None and not isinstance(root, yaml.MappingNode):
        yield Problem(
            _at(file, root), "", "a graph file is a map of sections",
            "write `nodes:` and `outputs:`",
        )  # fmt: skip
        return
    if root is None:
        yield Problem(Position(display_path(file)), "", "the file is empty",
                      "it needs `nodes` and `outputs`")  # fmt: skip
        return
    yield from _duplicates(file, root, "")
    yield from _interpolations(file, root, "")
    for key, value in root.value:
        if key.value not in (*TOP, "defaults") and nearest(
            str(key.value), ["defaults"], cutoff=0.75
        ):
            message = f"a graph has no key `{key.value}`."
            yield Problem(_at(file, key), key.value, message, "did you mean `defaults`?")
        elif key.value == "defaults":
            yield from _defaults(file, value, folders)
        elif key.value == "policies":
            yield Problem(
                _at(file, key), "policies", "a graph may not set policies",
                "set them in the call, `memo.max_mb=100`, or in a config file",
            )  # fmt: skip


def _not_yaml(file: Path, problem: yaml.YAMLError) -> Problem:
    reason = str(getattr(problem, "problem", None) or "")
    marks = [getattr(problem, name, None) for name in ("problem_mark", "context_mark")]
    if "stream" in reason:  # what is not closed began at the second mark
        marks.reverse()
    mark = next(filter(None, marks), None)
    message, help = "this is not YAML", "check quotes, brackets and indentation"
    for pattern, meaning, fix in SYNTAX:
        if re.search(pattern, reason):
            message, help = meaning, fix
            break
    name = display_path(file)
    place = Position(name, mark.line + 1, mark.column + 1) if mark else Position(name)
    return Problem(place, "", message, help)


def _at(file: Path, node: yaml.Node) -> Position:
    mark = node.start_mark
    return Position(display_path(file), mark.line + 1, mark.column + 1)


def _entries(node: yaml.Node, above: str) -> Iterator[tuple[str, yaml.Node]]:
    """Dotted path and value of each entry of a map or list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{above}.{key.value}".lstrip("."), value
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield f"{above}.{i}", value


def _duplicates(file: Path, node: yaml.Node, above: str) -> Iterator[Problem]:
    """Keys that one map has twice: the first value would be lost silently."""
    first: dict[str, yaml.Node] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
            continue
        if key.value in first:
            line = first[key.value].start_mark.line + 1
            message = f"`{key.value}` is written twice; the first is in line {line}"
            path = f"{above}.{key.value}".lstrip(".")
            yield Problem(_at(file, key), path, message, "keep one of them")
        first.setdefault(key.value, key)
    for path, value in _entries(node, above):
        yield from _duplicates(file, value, path)


def _interpolations(file: Path, node: yaml.Node, above: str) -> Iterator[Problem]:
    """Text that OmegaConf would take for an interpolation, and could fail to parse."""
    if isinstance(node, yaml.ScalarNode) and "${" in str(node.value):
        yield Problem(
            _at(file, node), above, "`${` begins an interpolation, and a graph file has none",
            "for one value in several places write it under `constants`",
        )  # fmt: skip
    for path, value in _entries(node, above):
        yield from _interpolations(file, value, path)


def _defaults(file: Path, listed: yaml.Node, folders: Sequence[Path]) -> Iterator[Problem]:
    """The graphs that a file extends: they exist, and its own values are not overridden."""
    fix = "`defaults` lists the graphs that it extends, then `_self_`: [demo, _self_]"
    if not isinstance(listed, yaml.SequenceNode):
        yield Problem(_at(file, listed), "defaults", "expects a list of graphs", fix)
        return
    own, after_self = catalog.read_yaml(file), False
    for entry in listed.value:
        name = entry.value if isinstance(entry, yaml.ScalarNode) else None
        if name is None:
            if not isinstance(entry, yaml.MappingNode):
                yield Problem(_at(file, entry), "defaults", "expects a name of a graph", fix)
        elif name == SELF:
            after_self = True
        elif name == file.stem:
            yield _extends_itself(file, entry, name)
        elif not (base := catalog.extended_file(name, (file.parent, *folders))):
            yield _no_base(file, entry, name, folders)
        elif file in catalog.graph_files(base, folders):
            yield Problem(
                _at(file, entry), "defaults",
                f"`{name}` extends this file, and this file extends `{name}`: a circle",
                f"remove `{file.stem}` or `{name}` from one of the two lists",
            )  # fmt: skip
        elif after_self:
            yield from _overridden(file, entry, own, base)


def _extends_itself(file: Path, entry: yaml.Node, name: str) -> Problem:
    return Problem(
        _at(file, entry), "defaults", f"graph `{name}` extends itself",
        "`defaults` lists other graphs; a file that stands in for a packaged graph needs another "
        "name to extend it",
    )  # fmt: skip


def _no_base(file: Path, entry: yaml.Node, name: str, folders: Sequence[Path]) -> Problem:
    known = {p.stem for folder in folders for p in folder.glob("*.yaml")} - {"default", file.stem}
    near = did_you_mean(name, known)
    return Problem(
        _at(file, entry), "defaults", f"there is no graph `{name}` to extend",
        near or "`sglang graphs` lists all graphs",
    )  # fmt: skip


def _overridden(
    file: Path, entry: yaml.Node, own: Mapping[str, object], base: Path
) -> Iterator[Problem]:
    """What stands before a base in `defaults` is overridden by it."""
    conflicts = list(_conflicts(own, catalog.read_yaml(base), ""))
    if not conflicts and "/" in str(entry.value):
        return
    message = f"`{entry.value}` stands after `{SELF}`, so it overrides this file"
    message += f": {', '.join(f'`{c}`' for c in conflicts[:3])}" if conflicts else ""
    yield Problem(
        _at(file, entry), "defaults", message, f"write `{SELF}` last: [{entry.value}, {SELF}]"
    )


def _conflicts(own: Mapping[str, object], base: Mapping[str, Any], above: str) -> Iterable[str]:
    """Paths that both files set, to different values."""
    for key, value in own.items():
        if key == "defaults" or key not in base or base[key] == value:
            continue
        path = f"{above}.{key}".lstrip(".")
        if isinstance(value, Mapping) and isinstance(base[key], Mapping):
            yield from _conflicts(value, base[key], path)
        else:
            yield path
