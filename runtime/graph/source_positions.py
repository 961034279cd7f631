"""Find file:line:column of a dotted path in the sources of a graph. Used for error messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from runtime.errors import Position
from runtime.settings.setting import Setting


def locate(path: str, sources: Sequence[Path], edits: Iterable[Setting] = ()) -> Position:
    """The position of `path`, or of the nearest thing above it; later sources and edits win."""
    marks: dict[str, Position] = {}
    for source in sources:
        marks |= yaml_positions(source)
    for edit in edits:
        for length in range(1, len(edit.path)):
            marks.setdefault(".".join(edit.path[:length]), edit.position)
        marks[edit.dotted] = edit.position
    for written in dict.fromkeys((path, _as_written(path))):
        parts = written.split(".")
        shortest = 1 if written != _as_written(path) else 0
        for length in range(len(parts), shortest, -1):
            found = marks.get(".".join(parts[:length]))
            if found:
                return found
    return Position(display_path(sources[-1])) if sources else Position("command line")


def origin(path: str, sources: Sequence[Path], edits: Iterable[Setting] = ()) -> int:
    """Index of the last source, or edit after the sources, that sets `path`; -1 where none does."""
    paths = {path, _as_written(path)}
    written = [bool(paths & yaml_positions(source).keys()) for source in sources]
    written += [f"{path}.".startswith(f"{edit.dotted}.") for edit in edits]
    return max((index for index, here in enumerate(written) if here), default=-1)


def _as_written(path: str) -> str:
    """The written path of an entry that a pass added: `nodes.left` for `nodes.left/cond`."""
    section, _, rest = path.partition(".")
    name, dot, port = rest.partition(".")
    return f"{section}.{name.partition('/')[0]}{dot}{port}" if "/" in name else path


def yaml_positions(path: Path) -> dict[str, Position]:
    """Every key of a YAML file: dotted path to the position of the key."""
    try:
        root = yaml.compose(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    found: dict[str, Position] = {}

    def visit(node: yaml.Node | None, above: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = f"{above}.{key.value}".lstrip(".")
                mark = key.start_mark
                found[here] = Position(display_path(path), mark.line + 1, mark.column + 1)
                visit(value, here)

    visit(root, "")
    return found


def display_path(path: Path) -> str:
    """A path for messages: relative to the working directory or to the folder of the package."""
    for base in (Path.cwd(), Path(__file__).resolve().parents[2]):
        try:
            return str(path.resolve().relative_to(base))
        except ValueError:
            continue
    return str(path)
