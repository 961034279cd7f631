"""Drawings: no two boxes overlap, edges go left to right and around boxes; for every graph."""

from __future__ import annotations

import random
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from runtime.configure.resolve import edit
from runtime.graph import catalog
from runtime.inspect.describe import describe_graph
from runtime.inspect.layout import GAP_Y, Box, BoxPlace, Edge, Layout, lay_out, layers, settled
from runtime.inspect.look import look
from runtime.inspect.rows import GraphView
from runtime.inspect.svg import CHAR, PAD, cells, drawing, edges, figures, svg

GRAPHS = sorted(catalog.entries())


def apart(layout: Layout) -> None:
    """Assert that boxes are apart, and edges go right and pass no box."""
    for (one, a), (two, b) in combinations(layout.boxes.items(), 2):
        beside = a.right <= b.x or b.right <= a.x or a.bottom <= b.y or b.bottom <= a.y
        assert beside, f"{one} and {two} overlap"
    for route in layout.routes:
        for (x, y), (to_x, to_y) in pairwise(route):
            assert x < to_x, "an edge goes back"
            if y == to_y:
                for name, box in layout.boxes.items():
                    inside = box.y < y < box.bottom and x < box.right and box.x < to_x
                    assert not inside, f"an edge passes {name}"


def within(layout: Layout) -> None:
    for box in layout.boxes.values():
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= layout.width + 1e-6
        assert box.bottom <= layout.height + 1e-6


def placed(shown: GraphView) -> Layout:
    made = figures(shown)
    arcs = edges(shown, {f.name: f for f in made})
    return lay_out([f.box for f in made], [edge for edge, _, _ in arcs])


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_is_drawn_without_overlaps(name: str) -> None:
    shown = describe_graph(look([edit("graph", name)]))
    layout = placed(shown)
    apart(layout)
    within(layout)
    for made in figures(shown):
        box = layout.boxes[made.name]
        assert all(cells(line.text) * CHAR + 2 * PAD <= box.width + 0.01 for line in made.lines)
    root = ElementTree.fromstring(svg(shown))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    count = sum(p.source.split(".")[0] != "request" for n in shown.nodes for p in n.inputs)
    assert drawing(shown).count('<path class="edge') == count + len(shown.outputs)


@pytest.mark.parametrize("stage", ["prune", "fold"])
def test_dropped_nodes_are_drawn_as_such(stage: str) -> None:
    settings = [edit("graph", "demo"), edit("request.guidance_scale", 1)]
    shown = describe_graph(look(settings, stage))
    apart(placed(shown))
    text = svg(shown)
    assert 'class="node dropped" data-box="node uncond"' in text
    assert "prune: bypassed: its denoiser is" in text
    assert text.count('class="edge rewired') == 1  # denoise takes `cond` now


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_without_a_cycle_is_laid_out(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 24)
    boxes = [Box(str(i), rng.uniform(10, 300), rng.uniform(10, 200)) for i in range(count)]
    arcs = []
    for _ in range(rng.randint(0, 2 * count)):
        a, b = sorted((rng.randrange(count), rng.randrange(count)))
        if a != b:
            at = rng.uniform(0, boxes[a].height), rng.uniform(0, boxes[b].height)
            arcs.append(Edge(str(a), str(b), *at))
    layout = lay_out(boxes, arcs)
    apart(layout)
    within(layout)


def test_columns_are_longest_paths_and_sources_stand_beside_their_use() -> None:
    boxes = [Box(n, 10, 10) for n in "abcd"] + [Box("request", 10, 10, pinned=True)]
    arcs = [Edge(a, b, 5, 5) for a, b in ("ab", "bc", "dc")]
    assert layers(boxes, arcs) == {"request": 0, "a": 1, "b": 2, "d": 2, "c": 3}


def test_boxes_keep_their_wish_or_share_it() -> None:
    assert settled([0, 100], [10, 10], [1, 1], 5) == [0, 100]
    assert settled([50, 50], [10, 10], [1, 1], 5) == [42.5, 57.5]
    assert settled([50, 50], [10, 10], [1, 3], 5) == [38.75, 53.75]


def test_a_straight_chain_is_drawn_straight() -> None:
    boxes = [Box(n, 40, 30) for n in "abc"]
    layout = lay_out(boxes, [Edge("a", "b", 15, 15), Edge("b", "c", 15, 15)])
    assert {place.y for place in layout.boxes.values()} == {0}
    assert layout.boxes["a"] == BoxPlace(0, 0, 40, 30)


def test_an_edge_past_a_column_keeps_its_distance() -> None:
    boxes = [Box(n, 40, 30) for n in "abc"]
    arcs = [Edge("a", "b", 15, 15), Edge("b", "c", 15, 10), Edge("a", "c", 15, 20)]
    layout = lay_out(boxes, arcs)
    lane = layout.routes[2][1][1]
    assert abs(lane - (layout.boxes["b"].y + 15)) >= 15 + GAP_Y


def test_nothing_is_laid_out_as_nothing() -> None:
    assert lay_out([], []) == Layout({}, (), 0, 0)
