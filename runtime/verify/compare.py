"""Two recorded runs beside each other: the value on every edge that has a counterpart.

Call by call and sample by sample: a batch of two in one run may be two passes in the other. What
belongs together is found by part, step and likeness of inputs, so no family needs to be known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from runtime.contract.declare import options
from runtime.contract.denoising import Denoiser
from runtime.contract.values import Latents, tensors
from runtime.graph.check import Checked
from runtime.graph.model import Ref
from runtime.plan.planner import bound
from runtime.verify.record import SOLVER, Record, Recorder

PIXEL = 1 / 255
PREDICTION, SAMPLE = "model_output", "sample"  # what diffusers' schedulers call their inputs


@dataclass(frozen=True)
class Row:
    """One value of both runs.

    edge     of our graph
    value    what it is: `transformer: hidden_states`
    step     of denoising, from 1; 0: none
    maximum  largest difference; pixels as parts of 1
    cosine   between both, as long vectors
    equal    within the tolerance; none: not judged, for `note` says why
    """

    edge: str
    value: str
    step: int
    shape: tuple[int, ...]
    maximum: float
    cosine: float
    equal: bool | None
    note: str = ""


@dataclass(frozen=True)
class Parity:
    """Every value that both runs have, in the order of ours.

    alone  network or scheduler to the number of calls that only one of both made
    """

    rows: tuple[Row, ...]
    alone: Mapping[str, int] = field(default_factory=dict)

    @property
    def first(self) -> Row | None:
        """The first row that differs."""
        return next((row for row in self.rows if row.equal is False), None)


@dataclass(frozen=True)
class Results:
    """The final values of both runs. edge: of our graph, where our result comes from."""

    edge: str
    ours: Any
    theirs: object


@dataclass(frozen=True)
class Edges:
    """Names of edges for records of our run. checked: the graph that ran; stepping: nodes."""

    checked: Checked
    stepping: Collection[str]

    def into(self, record: Record) -> str:
        """Where a call's inputs go."""
        if record.node in self.stepping:
            return f"into {self._denoisers(record)}"
        refs = list(self.checked.graph.nodes[record.node].inputs.values())
        first = next((r for r in refs if r.node != "request"), refs[0] if refs else None)
        return f"{first} into {record.node}" if first else f"into {record.node}"

    def out_of(self, record: Record) -> str:
        """The edge that a call's outputs lead to."""
        if record.node in self.stepping:
            return f"{self._denoisers(record)}.denoiser"
        return f"{record.node}.{next(iter(self.checked.declarations[record.node].outputs))}"

    def latents(self, node: str, step: int) -> str:
        """The latents that a node which steps has after so many steps."""
        if not step:
            return self._source(node, Latents)
        made = self.checked.declarations[node].outputs.values()
        return f"{node}.{next((p.name for p in made if p.type is Latents), 'latents')}"

    def prediction(self, node: str) -> str:
        """The denoiser that it follows."""
        return self._source(node, Denoiser)

    def _source(self, node: str, kind: object) -> str:
        ports = self.checked.declarations[node].inputs
        refs = self.checked.graph.nodes[node].inputs.items()
        return next((str(r) for p, r in refs if kind in options(ports[p].type)), f"into {node}")

    def _denoisers(self, record: Record) -> str:
        """The nodes that may have bound the network which a step calls: those it took most from."""
        found: dict[str, int] = {}
        todo = [Ref(record.node, "")]
        component = record.part.split(".")[0]
        while todo:
            name = todo.pop(0).node
            node, known = self.checked.graph.nodes[name], self.checked.declarations[name]
            for port, ref in node.inputs.items():
                if ref.node != "request" and Denoiser in options(known.inputs[port].type):
                    todo.append(ref)
            if name != record.node and component in bound(node, known).values():
                found[name] = len({r.node for r in node.inputs.values()} & record.sources)
        best = max(found.values(), default=0)
        return " or ".join(n for n, score in found.items() if score == best) or record.node


def compare_runs(
    ours: Recorder, theirs: Recorder, edges: Edges, results: Results, tolerance: float
) -> Parity:
    """All rows. tolerance: largest difference, as part of the largest value."""
    pairs, alone = paired(ours.records, theirs.records)
    rows: list[Row] = []
    for mine, other in pairs:
        new = list(_rows(mine, other, edges, tolerance))
        if mine.part == SOLVER and not mine.step:  # noise is there before it is predicted
            at = next((i for i, row in enumerate(rows) if row.step == 1), len(rows))
            rows[at:at] = [row for row in new if row.value == SAMPLE_ROW]
        rows += [row for row in new if row.value != SAMPLE_ROW]
    ends = pixels(results.edge, tensors(results.ours), tensors(results.theirs))
    return Parity((*rows, *ends), alone)


SAMPLE_ROW = "initial noise"


def _rows(mine: Record, other: Record, edges: Edges, tolerance: float) -> Iterator[Row]:
    step = mine.step + 1 if mine.node in edges.stepping else 0
    if mine.part != SOLVER:
        if inputs := _worst(mine.inputs, other.inputs, tolerance):
            yield row(edges.into(mine), f"{mine.part} takes {inputs[0]}", step, *inputs[1:])
        if outputs := _worst(mine.outputs, other.outputs, tolerance):
            yield row(edges.out_of(mine), f"{mine.part} gives", step, *outputs[1:])
        return
    for name, label, edge in (
        (SAMPLE, SAMPLE_ROW, edges.latents(mine.node, 0)),
        (PREDICTION, "prediction", edges.prediction(mine.node)),
    ):
        if name in mine.inputs and name in other.inputs and (name == PREDICTION or not mine.step):
            yield row(edge, label, step, (mine.inputs[name], other.inputs[name]), tolerance)
    if outputs := _worst(mine.outputs, other.outputs, tolerance):
        yield row(edges.latents(mine.node, step), "latents after the step", step, *outputs[1:])


def row(edge: str, value: str, step: int, both: tuple[Tensor, Tensor], tolerance: float) -> Row:
    """Ours and theirs, element by element; both sorted where their shapes differ."""
    mine, other = both
    a, b, shape = numbers(mine), numbers(other), tuple(mine.shape)
    if a.numel() != b.numel():
        note = f"other shape: theirs is {tuple(other.shape)}"
        return Row(edge, value, step, shape, float("nan"), float("nan"), None, note)
    note = ""
    if squeezed(mine) != squeezed(other):
        a, b, note = a.sort().values, b.sort().values, "sorted: the layouts differ"
    most = float((a - b).abs().max()) if a.numel() else 0.0
    scale = float(b.abs().max()) if b.numel() else 0.0
    cosine = float(torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-300)) if scale else 1.0
    return Row(edge, value, step, shape, most, cosine, bool(most <= tolerance * scale), note)


def pixels(edge: str, mine: Sequence[Tensor], other: Sequence[Tensor]) -> Iterator[Row]:
    """Rows of results: pictures or frames, uint8. At most 1/255 may differ."""
    for a, b in zip(mine, other, strict=False):
        if a.dtype != torch.uint8:
            continue
        if squeezed(a) != squeezed(b):
            note = f"other shape: theirs is {tuple(b.shape)}"
            yield Row(edge, "pixels", 0, tuple(a.shape), 1.0, 0.0, False, note)
        else:
            same = row(edge, "pixels", 0, (a / 255, b / 255), 1.0)
            yield Row(edge, "pixels", 0, same.shape, same.maximum, same.cosine,
                      same.maximum <= PIXEL + 1e-6)  # fmt: skip


def paired(
    ours: Iterable[Record], theirs: Iterable[Record]
) -> tuple[list[tuple[Record, Record]], dict[str, int]]:
    """Each record of ours with that of theirs whose inputs are most like it; and who is alone."""
    left: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in theirs:
        left[record.part, record.step].append(record)
    pairs: list[tuple[Record, Record]] = []
    alone: dict[str, int] = defaultdict(int)
    for record in ours:
        near = left[record.part, record.step]
        if not near:
            alone[record.part] += 1
            continue
        index = min(range(len(near)), key=lambda i: unlike(record.inputs, near[i].inputs))
        pairs.append((record, near.pop(index)))
    for (part, _), rest in left.items():
        if rest:
            alone[part] += len(rest)
    met = {mine.part for mine, _ in pairs}
    # One run may call a model with its head, the other without: then the model alone has met.
    return pairs, {p: n for p, n in alone.items() if not any(m.startswith(f"{p}.") for m in met)}


def unlike(mine: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """How different the inputs of two calls are: 0 for equal ones, about 1 for each that is not."""
    total = 0.0
    for name in mine.keys() & other.keys():
        a, b = numbers(mine[name]), numbers(other[name])
        if a.numel() != b.numel():
            total += 10.0
        elif a.numel():
            scale = float((a.abs().max() + b.abs().max()) / 2)
            total += min(float((a - b).abs().max()) / scale, 2.0) if scale else 0.0
    return total


def _worst(
    mine: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float
) -> tuple[str, tuple[Tensor, Tensor], float] | None:
    """The values of two calls that differ most, by name; the first ones where names differ."""
    names = [(n, n) for n in mine if n in other]
    if not names and mine and other:
        names = [(next(iter(mine)), next(iter(other)))]
    judged = [(row("", "", 0, (mine[a], other[b]), tolerance), a, b) for a, b in names]
    if not judged:
        return None
    known = [entry for entry in judged if entry[0].equal is not None] or judged
    wrong = [entry for entry in known if entry[0].equal is False]
    _, a, b = (wrong or known)[0]
    return a, (mine[a], other[b]), tolerance


def numbers(value: Tensor) -> Tensor:
    """A tensor as a long vector of float64."""
    return value.reshape(-1).double()


def squeezed(value: Tensor) -> tuple[int, ...]:
    """A shape without axes of length one: they change no order."""
    return tuple(n for n in value.shape if n != 1)
