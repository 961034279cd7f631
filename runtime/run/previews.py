"""Previews: the current latents of a run in progress, decoded as its graph decodes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from runtime.contract.declare import options
from runtime.contract.denoising import DenoiseState
from runtime.contract.values import Image, Latents, Rng, Video
from runtime.errors import UserError
from runtime.graph.check import Checked
from runtime.plan.items import RunNode
from runtime.plan.plan import Plan
from runtime.run.work import Work


def preview_output(checked: Checked) -> str:
    """The first output of a graph that is a picture or a clip in memory."""
    for name, ref in checked.graph.outputs.items():
        if {Image, Video} & {*options(checked.declarations[ref.node].outputs[ref.port].type)}:
            return name
    raise UserError(
        f"graph `{checked.graph.name}` has no output that is a picture or a clip",
        help="name one among its outputs: image: decode.image", field="outputs",
    )  # fmt: skip


def rest_of(made: Plan, work: Work) -> Work:
    """The part of a plan that follows the step just done, with the values that it needs.

    made  the plan of the output that is shown; work: the run in progress, which it leaves alone
    """
    if work.state is None:
        raise RuntimeError("there is nothing to preview: no step is done, or the run is over")
    node, state = work.state
    known = made.checked.declarations.get(node)
    if not state.parts or known is None:
        raise UserError(f"`{node}` does not show the latents of its steps: there is no preview")
    out = {name: _as_port(port.type, state) for name, port in known.outputs.items()}
    same = {n: v for n, v in work.values.items() if made.keys.get(n) == work.plan.keys.get(n)}
    values: dict[str, Any] = {**same, node: known.cls.Out(**out)}
    needed = _needed(made, values)
    items = tuple(i for i in made.items if isinstance(i, RunNode) and i.node in needed)
    plan = dataclasses.replace(made, items=items, lasting=frozenset())
    return Work(plan, work.request, 0, lambda: False, work.wanted, work.memo, values=values)


def _as_port(kind: Any, state: DenoiseState) -> Any:
    """A state as the value of an output port."""
    if Latents in options(kind):
        return Latents(state.parts)
    return state.rng if Rng in options(kind) else None


def _needed(made: Plan, values: Mapping[str, Any]) -> set[str]:
    """Nodes that are still to run, backwards from the outputs to the values there are."""
    needed: set[str] = set()
    todo = [ref.node for ref in made.outputs.values()]
    while todo:
        name = todo.pop()
        if name != "request" and name not in values and name not in needed:
            needed.add(name)
            todo += [ref.node for ref in made.checked.graph.nodes[name].inputs.values()]
    return needed
