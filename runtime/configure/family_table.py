"""The table of graphs: checkpoints, defaults, task, and reference. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runtime.configure.resolve import edit, resolve_graph
from runtime.errors import UserError
from runtime.graph import catalog
from runtime.graph.model import Graph
from runtime.graph.parse import WHOLE_PIPELINE
from runtime.settings.field import plain_number

PAGE = """# Families

Generated from `graphs/`; a test keeps it current and says how to write it anew. A checkpoint is
known by the class and configs in its `model_index.json`, so a local folder or another hub id of
the same kind works as well; any other pipeline runs through `model.backend=diffusers`.
*Verified against*: `tests/families/test_families.py` compares every picture and frame with that
pipeline of diffusers on the same tiny random checkpoint, at most 1/255 apart.
"""
DEFECTS = """
## Known defects of the references

What the review of diffusers' pipelines (huggingface/diffusers issue 13656 and the reviews that it
links) and other issues found, and whether the graph shares it. A family that is not listed has no
review that a search of public issues found. A run makes the result of one prompt, and several
results are several runs, so what diffusers does wrong only with several prompts, or with several
results of one prompt, affects no graph. Of the reviews 13577 and 13611 no text could be read: the
index that was searched has 13577 as a number in 13656 alone, as a finished review that pull
requests 13679 and 13684 followed, and does not have 13611 at all. What these two found is not
compared with any graph here.
"""


def rows() -> list[dict[str, Any]]:
    """A row per graph on the search path, by name; `problem` says why one cannot be composed."""
    return [_row(entry) for _, entry in sorted(catalog.entries().items())]


def _row(entry: catalog.Entry) -> dict[str, Any]:
    head = {
        "name": entry.name, "title": entry.title, "task": entry.task,
        "classes": list(entry.classes), "checkpoints": list(entry.checkpoints),
        "reference": entry.reference, "checkpoint": entry.checkpoint,
        "known_defects": list(entry.known_defects), "path": str(entry.path),
    }  # fmt: skip
    try:
        graph = resolve_graph([edit("graph", entry.name)])
    except UserError as problem:
        return {**head, "defaults": {}, "components": [], "problem": problem.message}
    return {**head, "defaults": request_defaults(graph), "components": list(graph.components)}


def request_defaults(graph: Graph) -> dict[str, object]:
    """Request fields that have a default, but for texts and the seed."""
    return {
        name: field.default
        for name, field in graph.request.items()
        if field.default is not None and field.type not in {"text", "seed"}
    }


def defaults_text(values: Mapping[str, Any]) -> str:
    """Defaults as a person reads them: 1024x1024, 28 steps, guidance 3.5."""
    parts = []
    if "width" in values and "height" in values:
        parts.append(f"{values['width']}x{values['height']}")
    for name, text in (
        ("num_frames", "{} frames"), ("fps", "{} frames/s"),
        ("num_inference_steps", "{} steps"), ("guidance_scale", "guidance {}"),
    ):  # fmt: skip
        if name in values:
            one = text.removesuffix("s") if values[name] == 1 else text
            parts.append(one.format(plain_number(values[name])))
    return ", ".join(parts)


def checkpoints_of(row: Mapping[str, Any]) -> list[str]:
    """Checkpoints of a row: hub ids, else classes, else what it brings, else how to ask for it."""
    if WHOLE_PIPELINE in row["components"]:
        return ["any other pipeline of diffusers"]
    own = ["its own"] if row["checkpoint"] else []
    return row["checkpoints"] or own or row["classes"] or ["only by name"]


def markdown(table: Iterable[Mapping[str, Any]]) -> str:
    """The page `docs/families.md`."""
    table = list(table)
    lines = [PAGE, "| graph | checkpoints | task | defaults | components | verified against |"]
    lines.append("|---|---|---|---|---|---|")
    for row in table:
        known = "<br>".join(checkpoints_of(row))
        parts = ", ".join(row["components"])
        cells = (
            f"**{row['name']}**: {row['title']}",
            known,
            row["task"],
            defaults_text(row["defaults"]),
        )
        lines.append(f"| {' | '.join((*cells, parts, row['reference']))} |")
    return "\n".join([*lines, DEFECTS, *_defects(table)]) + "\n"


def _defects(table: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each list of known defects, with the graphs that share it."""
    graphs: dict[tuple[str, ...], list[str]] = {}
    for row in table:
        if row["known_defects"]:
            graphs.setdefault(tuple(row["known_defects"]), []).append(row["name"])
    for defects, names in graphs.items():
        yield f"\n**{', '.join(names)}**\n"
        yield from (f"- {defect}" for defect in defects)
