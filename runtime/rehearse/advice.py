"""Changes that make a request fit: options that exist, the least costly for the result first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.graph.model import Graph
from runtime.rehearse.placement import Placement
from runtime.settings.field import Field
from runtime.settings.policies import Policies

HALF = "bfloat16"
SIZES = (0.75, 0.5, 0.375, 0.25)
FRAMES = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Change:
    """A change of settings. why: in words. settings: config path to value."""

    why: str
    settings: Mapping[str, Any]


def fitting_changes(
    placed: Placement, graph: Graph, policies: Policies, request: Mapping[str, Any]
) -> Iterator[Change]:
    """Changes to be tried, smallest first: each alone, then smaller requests on top of those."""
    short = [node.short for node in placed.nodes if node.short]
    tiling = any(name.startswith("vae") for name in short) and not policies.vae.tiling
    tiles = Change("the VAE decodes in tiles; pixels change where tiles meet", {"vae.tiling": True})
    single = {p.name: p.dtype for p in placed.components}
    full = [name for name in dict.fromkeys(short) if single.get(name) == "float32"]
    halves = Change(
        f"{_listed(full)} in {HALF}: half of its weights and values; pictures differ slightly",
        {f"components.{name}.dtype": HALF for name in full},
    )
    own = ([tiles] if tiling else []) + ([halves] if full else [])
    yield from own
    both = {k: v for change in own for k, v in change.settings.items()}
    why = "; ".join(change.why for change in own)
    if len(own) > 1:
        yield Change(why, both)
    weights = {part.name: part.nbytes for part in placed.components}
    if any(weights.get(name, 0) > placed.machine.budget for name in short) and not full:
        return  # no smaller request makes smaller weights
    for smaller in (*_fewer_frames(graph, request), *_smaller(graph, request)):
        yield Change("; ".join(filter(None, (why, smaller.why))), {**both, **smaller.settings})


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _smaller(graph: Graph, request: Mapping[str, Any]) -> Iterator[Change]:
    sides = {n: request[n] for n in ("height", "width") if isinstance(request.get(n), int)}
    if len(sides) < 2:
        return
    for share in SIZES:
        less = {n: _fitting(graph.request[n], int(side * share)) for n, side in sides.items()}
        if all(0 < less[n] < sides[n] for n in sides):
            made = f"{less['width']}x{less['height']} instead of"
            yield Change(
                f"{made} {sides['width']}x{sides['height']}",
                {f"request.{n}": side for n, side in less.items()},
            )


def _fewer_frames(graph: Graph, request: Mapping[str, Any]) -> Iterator[Change]:
    frames = request.get("num_frames")
    if not isinstance(frames, int) or frames < 2:
        return
    for share in FRAMES:
        less = _fitting(graph.request["num_frames"], int(frames * share))
        if 0 < less < frames:
            yield Change(f"{less} frames instead of {frames}", {"request.num_frames": less})


def _fitting(field: Field, value: int) -> int:
    """The nearest value below that the field takes; 0 where there is none."""
    step = field.multiple or 1
    value = (value - field.offset) // step * step + field.offset
    return value if value >= (field.min or 1) else 0
