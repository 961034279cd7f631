"""A placement as a table for a terminal, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.plan.text import size
from runtime.rehearse.placement import PlacedNode, Placement

WIDTH = 16  # of a bar
GLYPHS, PLAIN = ("█", "░", "!"), ("#", ".", "!")


def placement_json(placed: Placement, advice: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """The placement as plain data. What is not known of a node is null."""
    machine = placed.machine
    on_host = machine.host_memory == machine.memory and len(machine.names) == 1
    return {
        "fits": placed.fits,
        "machine": {
            "name": machine.name, "title": machine.title, "memory_bytes": machine.memory,
            "bandwidth": machine.bandwidth, "flops": dict(machine.rates), "count": machine.count,
        },
        "devices": {
            name: {"peak_bytes": 0 if index else placed.peak, "budget_bytes": machine.budget}
            for index, name in enumerate(machine.names)
        },
        "host": {
            "peak_bytes": placed.peak if on_host else 0, "budget_bytes": machine.host_memory,
        },
        "components": {
            part.name: {
                "class": part.class_name, "dtype": part.dtype, "bytes": part.nbytes,
                "residency": part.residency, "device": part.device, "why": part.why,
            }
            for part in placed.components
        },
        "nodes": [_node(node) for node in placed.nodes],
        "seconds": placed.seconds,
        "advice": list(advice),
    }  # fmt: skip


def _node(node: PlacedNode) -> dict[str, Any]:
    cost, known = node.cost, not node.cost.unknown
    return {
        "name": cost.name, "type": cost.type, "device": node.device,
        "peak_bytes": node.peak if known else None,
        "output_bytes": cost.output_bytes if known else None,
        "flops": sum(cost.flops.values()) if known else None,
        "seconds": node.seconds if known else None,
    }  # fmt: skip


def placement_text(placed: Placement, title: str, *, plain: bool = False) -> str:
    """The placement as tables. plain: in ASCII."""
    machine, glyphs = placed.machine, PLAIN if plain else GLYPHS
    verdict = "fits" if placed.fits else "DOES NOT FIT"
    budget = f"{size(machine.budget)} of {size(machine.memory)} for weights and values"
    lines = [f"{title} on {machine.title}: {verdict}", f"each device has {budget}", ""]
    if machine.count > 1:
        lines[1] += f"; of {machine.count} devices this version uses one"
    lines += _table(
        ("node", "type", "device", "memory at its peak", "", "TFLOP", "seconds"),
        [_row(node, placed, glyphs) for node in placed.nodes], right={4, 5, 6},
    )  # fmt: skip
    parts = [
        (p.name, p.class_name, p.dtype, size(p.nbytes), p.device, p.residency, p.why)
        for p in placed.components
    ]
    head = ("component", "class", "dtype", "weights", "device", "residency", "why")
    lines += ["", *_table(head, parts, right={3}), ""]
    least = "at least " if placed.unknown else ""
    peak = f"{least}{size(placed.peak)} of {size(machine.budget)}"
    time = f"{least}{_time(placed.seconds)} by roofline, the time to load weights not counted"
    lines.append(f"peak {peak}; {time}")
    lines += [f"not known: {cost.unknown}" for cost in _first_of_each(placed)]
    for node in placed.nodes:
        if node.short:
            weights = {p.name: p.nbytes for p in placed.components}.get(node.short, 0)
            need = weights + node.cost.peaks.get(node.short, node.cost.peak)
            lines.append(
                f"`{node.cost.name}` needs {size(need)} for {_what(node, weights)},"
                f" and {size(machine.budget)} are there"
            )
    return "\n".join(lines)


def _what(node: PlacedNode, weights: int) -> str:
    own = node.cost.peaks.get(node.short, node.cost.peak)
    if not weights:
        return "values"
    return f"`{node.short}` alone ({size(weights)} of weights, {size(own)} of values)"


def _first_of_each(placed: Placement) -> list[Any]:
    return list({cost.unknown: cost for cost in reversed(placed.unknown)}.values())


def _row(node: PlacedNode, placed: Placement, glyphs: Sequence[str]) -> tuple[str, ...]:
    cost = node.cost
    if cost.unknown:
        return cost.name, cost.type, node.device, "", "not known", "", ""
    full, empty, over = glyphs
    scale = max(placed.machine.budget, 1)
    filled = min(round(WIDTH * node.peak / scale), WIDTH)
    bar = over * WIDTH if node.short else full * filled + empty * (WIDTH - filled)
    tera = sum(cost.flops.values()) / 1e12
    work = f"{tera:,.3f}" if tera >= 0.0005 else ""
    name = f"{cost.name} ({cost.steps} steps)" if cost.steps > 1 else cost.name
    seconds = f"{node.seconds:,.3f}" if node.seconds >= 0.0005 else ""
    return name, cost.type, node.device, bar, size(node.peak), work, seconds


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Lines of a table. right: columns that are set flush right."""
    every = [head, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    ]
