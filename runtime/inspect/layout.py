"""Where boxes and edges of a drawing go: layers left to right, no two boxes over each other.

Longest paths give the layers, barycentres the order in each, and least squares the heights: a box
stands as straight beside what it is connected with as its neighbours allow. Knows boxes and edges
only, no graph of ours. Units are px; x grows to the right, y downwards.

Source: Sugiyama, Tagawa, Toda, Methods for visual understanding of hierarchical system structures,
1981 (layers and barycentres); Barlow et al., Statistical inference under order restrictions, 1972
(pooling of adjacent violators).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

GAP_X, GAP_Y, LANE = 72.0, 22.0, 12.0  # between columns, between boxes, height of a passing edge
SWEEPS = 12


@dataclass(frozen=True)
class Box:
    """Something to place. pinned: it stands in the first column whatever it is connected with."""

    name: str
    width: float
    height: float
    pinned: bool = False


@dataclass(frozen=True)
class Edge:
    """A connection. leaves, enters: how far below the top of its box it does so."""

    source: str
    target: str
    leaves: float
    enters: float


@dataclass(frozen=True)
class BoxPlace:
    """A box's top left corner and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.y + self.height


@dataclass(frozen=True)
class Layout:
    """boxes: by name. routes: points of each edge as given, x never falls. Size of it all."""

    boxes: Mapping[str, BoxPlace]
    routes: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


def lay_out(boxes: Sequence[Box], edges: Sequence[Edge]) -> Layout:
    """BoxPlace boxes that edges connect without a cycle."""
    drawing = _Drawing({box.name: box for box in boxes}, edges)
    drawing.sort()
    drawing.settle()
    return drawing.layout()


def layers(boxes: Sequence[Box], edges: Sequence[Edge]) -> dict[str, int]:
    """The column of each box: right of all that it needs, and no further left than it has to be."""
    above: dict[str, set[str]] = {b.name: set() for b in boxes}
    below: dict[str, set[str]] = {b.name: set() for b in boxes}
    for edge in edges:
        above[edge.target].add(edge.source)
        below[edge.source].add(edge.target)
    pinned = {b.name for b in boxes if b.pinned}
    first = int(bool(pinned))
    found: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in found:
            longest = max((depth(other) + 1 for other in above[name]), default=first)
            found[name] = 0 if name in pinned else max(longest, first)
        return found[name]

    for box in boxes:
        depth(box.name)
    for name in sorted(found, key=found.__getitem__, reverse=True):  # short edges: beside its use
        if below[name] and name not in pinned:
            nearest = min(found[other] for other in below[name]) - 1
            found[name] = max(found[name], nearest)
    return found


def settled(
    wanted: Sequence[float], heights: Sequence[float], weights: Sequence[float], gap: float
) -> list[float]:
    """Tops of stacked boxes, in order and `gap` apart, as near to `wanted` as squares measure."""
    shifts, at = [], 0.0
    for height in heights:
        shifts.append(at)
        at += height + gap
    blocks: list[tuple[float, float, int]] = []  # mean of what is wanted, weight, how many
    for top, shift, weight in zip(wanted, shifts, weights, strict=True):
        mean, heavy, count = top - shift, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, more, several = blocks.pop()
            mean = (mean * heavy + other * more) / (heavy + more)
            heavy, count = heavy + more, count + several
        blocks.append((mean, heavy, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + shift for mean, shift in zip(means, shifts, strict=True)]


class _Drawing:
    """Boxes in columns; an edge that passes a column holds a lane in it, like a thin box."""

    def __init__(self, boxes: Mapping[str, Box], edges: Sequence[Edge]) -> None:
        self.boxes, self.edges = dict(boxes), edges
        column = layers(list(boxes.values()), edges)
        self.columns: list[list[str]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
        for name, at in column.items():
            self.columns[at].append(name)
        self.width = [max(boxes[n].width for n in c) if c else 0.0 for c in self.columns]
        self.chains = [self._chain(edge, column) for edge in edges]
        self.top: dict[str, float] = {}
        # The links of neighbouring columns: (left, leaves, right, enters), each once.
        self.links = list(
            dict.fromkeys(
                (a, self._leaves(edge, a), b, self._enters(edge, b))
                for edge, chain in zip(edges, self.chains, strict=True)
                for a, b in pairwise(chain)
            )
        )
        self.before = self._neighbours(2, 0)
        self.after = self._neighbours(0, 2)

    def _chain(self, edge: Edge, column: Mapping[str, int]) -> list[str]:
        """An edge's boxes and lanes, column by column; edges from one port share their lanes."""
        lanes = []
        for at in range(column[edge.source] + 1, column[edge.target]):
            name = f"{edge.source}\0{edge.leaves}\0{at}"
            if name not in self.boxes:
                self.boxes[name] = Box(name, 0.0, LANE)
                self.columns[at].append(name)
            lanes.append(name)
        return [edge.source, *lanes, edge.target]

    def _leaves(self, edge: Edge, name: str) -> float:
        return edge.leaves if name == edge.source else LANE / 2

    def _enters(self, edge: Edge, name: str) -> float:
        return edge.enters if name == edge.target else LANE / 2

    def _neighbours(self, end: int, other: int) -> dict[str, list[tuple[str, float, float]]]:
        """Box to its neighbours on one side: (neighbour, offset there, offset here)."""
        found: dict[str, list[tuple[str, float, float]]] = {}
        for link in self.links:
            here, there = str(link[end]), str(link[other])
            offsets = float(link[other + 1]), float(link[end + 1])
            found.setdefault(here, []).append((there, *offsets))
        return found

    def sort(self) -> None:
        """Order each column by barycentres, to and fro; the order with fewest crossings stays."""
        best, fewest = [list(c) for c in self.columns], self._crossings()
        for sweep in range(SWEEPS):
            forward = sweep % 2 == 0
            columns = range(1, len(self.columns))
            for at in columns if forward else reversed([n - 1 for n in columns]):
                self._sort_column(at, at - 1 if forward else at + 1)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(c) for c in self.columns], crossings
        self.columns = best

    def _sort_column(self, at: int, fixed: int) -> None:
        place = {name: float(i) for i, name in enumerate(self.columns[fixed])}
        sides = self.before if fixed < at else self.after
        centre: dict[str, float] = {}
        for i, name in enumerate(self.columns[at]):
            near = [
                place[other] + leaves / (self.boxes[other].height + 1)
                for other, leaves, _ in sides.get(name, ())
                if other in place
            ]
            centre[name] = sum(near) / len(near) if near else float(i)
        self.columns[at].sort(key=centre.__getitem__)

    def _crossings(self) -> int:
        """How often links of the same two columns cross."""
        place = {name: i for column in self.columns for i, name in enumerate(column)}
        at = {name: i for i, column in enumerate(self.columns) for name in column}
        total = 0
        for column in range(len(self.columns)):
            ends = sorted(
                ((place[a], x), (place[b], y)) for a, x, b, y in self.links if at[a] == column
            )
            total += sum(
                one[0] < two[0] and one[1] > two[1]
                for i, one in enumerate(ends)
                for two in ends[i + 1 :]
            )
        return total

    def settle(self) -> None:
        """Give every box and lane its height, column by column, to and fro."""
        for column in self.columns:
            at = 0.0
            for name in column:
                self.top[name] = at
                at += self.boxes[name].height + GAP_Y
        for sweep in range(SWEEPS):
            both = sweep >= SWEEPS - 2
            forward = sweep % 2 == 0
            for column in self.columns if forward else reversed(self.columns):
                self._settle_column(column, forward, both)
        pinned = [name for name in self.columns[0] if self.boxes[name].pinned] if self.top else []
        others = [top for name, top in self.top.items() if name not in pinned]
        if pinned and others:  # what is apart from all stands at the upper edge
            down = min(others) - self.top[pinned[0]]
            self.top.update({name: self.top[name] + down for name in pinned})

    def _settle_column(self, column: Sequence[str], forward: bool, both: bool) -> None:
        wanted, weights = [], []
        for name in column:
            sides = self.before.get(name, []) if forward or both else []
            sides = sides + (self.after.get(name, []) if not forward or both else [])
            near = [self.top[other] + leaves - enters for other, leaves, enters in sides]
            lane = self.boxes[name].width == 0
            wanted.append(sum(near) / len(near) if near else self.top[name])
            weights.append((4.0 if lane else 1.0) * max(len(near), 1) if near else 0.2)
        heights = [self.boxes[name].height for name in column]
        self.top.update(zip(column, settled(wanted, heights, weights, GAP_Y), strict=True))

    def layout(self) -> Layout:
        """The finished drawing, its upper left corner at 0, 0."""
        left, x = [], 0.0
        for width in self.width:
            left.append(x)
            x += width + GAP_X
        highest = min(self.top.values(), default=0.0)
        at = {name: i for i, column in enumerate(self.columns) for name in column}
        every = {
            name: BoxPlace(
                left[at[name]], self.top[name] - highest, self.width[at[name]], box.height
            )
            for name, box in self.boxes.items()
        }
        routes = tuple(
            self._route(edge, chain, every)
            for edge, chain in zip(self.edges, self.chains, strict=True)
        )
        boxes = {name: place for name, place in every.items() if "\0" not in name}
        height = max((place.bottom for place in every.values()), default=0.0)
        return Layout(boxes, routes, max(x - GAP_X, 0.0), height)

    def _route(
        self, edge: Edge, chain: Sequence[str], every: Mapping[str, BoxPlace]
    ) -> tuple[tuple[float, float], ...]:
        source, target = every[edge.source], every[edge.target]
        points = [(source.right, source.y + edge.leaves)]
        for lane in chain[1:-1]:
            place = every[lane]
            points += [(x, place.y + LANE / 2) for x in (place.x, place.right)]
        return (*points, (target.x, target.y + edge.enters))
