"""Compare two configurations, two result files, or one option with its default."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.inspect.describe import describe_graph
from runtime.inspect.diff_graphs import (
    ABSENT_TEXT,
    Change,
    Compared,
    bytes_beside,
    compare_views,
    compared_text,
)
from runtime.inspect.look import has_model, look
from runtime.inspect.option_names import options_of, without
from runtime.inspect.rows import GraphView, plain_data
from runtime.provenance.read_back import differences, provenance
from runtime.settings.field import show
from runtime.settings.setting import Setting


def difference(
    sides: Sequence[Sequence[Setting]],
    names: tuple[str, str],
    *,
    stage: str | None,
    outputs: Sequence[str],
    format: str,
) -> str:
    """The differences between two sides, as text or JSON."""
    found = compared(sides, names, stage or "check", outputs)
    if format == "json":
        return json.dumps(plain_data(found), indent=2, ensure_ascii=False)
    return compared_text(found)


def between_files(one: Path, two: Path, format: str) -> str:
    """The differences between the provenance records of two result files."""
    records = [provenance(path) for path in (one, two)]
    changes = tuple(
        Change(*_named(path), _text(old), _text(new))
        for path, old, new in _leaves_that_differ(*records)
        if old or new  # an empty map and a missing one are equal
    )
    found = Compared(one.name, two.name, changes, {})
    if format == "json":
        return json.dumps(plain_data(found), indent=2, ensure_ascii=False)
    return compared_text(found)


def _leaves_that_differ(
    one: Mapping[str, object], two: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """What a result depends on, and which model it says that it is of."""
    yield from differences({"model ": one["model"]}, {"model ": two["model"]})
    yield from differences(one, two)


def _named(path: str) -> tuple[str, str]:
    head, _, rest = path.partition(".")
    return head.strip(), rest or head.strip()


def _text(value: object) -> str:
    return ABSENT_TEXT if value is None else show(value)


def compared(
    sides: Sequence[Sequence[Setting]],
    names: tuple[str, str],
    stage: str,
    outputs: Sequence[str],
) -> Compared:
    """Two sides after a pass, and their predicted bytes where a model is known."""
    one, two = (describe_graph(look(side, stage, outputs)) for side in sides)
    found = compare_views(one, two, names)
    if found.nbytes:
        return found
    notes = list(found.notes)
    planned = [
        _planned(side, outputs, name, notes) for side, name in zip(sides, names, strict=True)
    ]
    plans = [plan or described for plan, described in zip(planned, (one, two), strict=True)]
    return dataclasses.replace(found, nbytes=bytes_beside(*plans), notes=tuple(notes))


def _planned(
    side: Sequence[Setting], outputs: Sequence[str], name: str, notes: list[str]
) -> GraphView | None:
    """The plan of one side, where its model is known and its request is whole."""
    if not has_model(side):
        return None
    try:
        return describe_graph(look(side, "plan", outputs))
    except UserError as problem:
        notes.append(f"no bytes of `{name}`: {problem.message}")
        return None


def option_effect(option: str, settings: Sequence[Setting], outputs: Sequence[str]) -> str:
    """What the value that settings give an option changes, beside its default; else nothing."""
    seen = look(settings)
    parts = [row.name for row in describe_graph(seen).components]
    paths = [found.path for found in options_of(option, seen.graph, parts)]
    before = list(settings)
    for path in paths:
        before = without(before, path)
    if len(before) == len(settings):
        return ""
    stage = "plan" if has_model(settings) else "prune"
    changed = " ".join(f"{s.dotted}={s.value}" for s in settings if s not in before)
    return "\n" + compared_text(compared((before, settings), ("default", changed), stage, outputs))
