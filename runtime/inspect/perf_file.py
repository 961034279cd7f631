"""What a run took, node by node, from the file that `--perf-dump-path` writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runtime.errors import UserError, did_you_mean
from runtime.inspect.rows import Cost

WRITE = "a run writes one with `output.perf_dump_path=FILE`"


def read_costs(file: str, nodes: Iterable[str]) -> dict[str, Cost]:
    """Node to what it took, over all runs of the file. nodes: those of the graph."""
    known, found = [*nodes], dict[str, Cost]()
    for row in _rows(file):
        found[row["node"]] = _added(found.get(row["node"]), row)
    strange = [name for name in found if name not in known]
    if strange:
        raise UserError(
            f"--perf {file} measures node `{strange[0]}`, which this graph has not",
            help=did_you_mean(strange[0], known) or "give the file of a run of this graph",
            field="--perf",
        )
    return found


def _rows(file: str) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(Path(file).expanduser().read_text("utf-8"))
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UserError(f"--perf {file}: {reason}", help=WRITE, field="--perf") from None
    except ValueError:
        raise UserError(f"--perf {file} is no JSON", help=WRITE, field="--perf") from None
    rows = content.get("nodes") if isinstance(content, Mapping) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise UserError(f"--perf {file} has no times of nodes", help=WRITE, field="--perf")
    return rows


def _is_row(row: object) -> bool:
    return (
        isinstance(row, Mapping)
        and isinstance(row.get("node"), str)
        and isinstance(row.get("duration_ms"), int | float)
        and all(isinstance(row.get(n), int | None) for n in ("nbytes", "peak_nbytes"))
    )


def _added(before: Cost | None, row: Mapping[str, Any]) -> Cost:
    """The costs of a node with one more run; of memory the largest stays."""
    old = before or Cost(0.0, 0)
    return Cost(
        old.milliseconds + float(row["duration_ms"]),
        old.runs + 1,
        old.recalled + bool(row.get("memoised")),
        _largest(old.nbytes, row.get("nbytes")),
        _largest(old.peak_nbytes, row.get("peak_nbytes")),
    )


def _largest(one: int | None, two: int | None) -> int | None:
    return max((n for n in (one, two) if n is not None), default=None)
