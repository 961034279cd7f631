"""Random graphs of toy nodes, random budgets, many runs at once: nothing is lost, all ends."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from toy_nodes import arith

from runtime import Cancelled, NodeFailed, Runtime
from runtime.api import Run, together
from runtime.events import Event, Freed, NodeDone, NodeStarted, Planned
from runtime.run.scheduler import loop

GRAPHS = Path(__file__).parents[1] / "data/graphs"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(GRAPHS))
    arith.calls.clear()
    before = [*loop("cpu")._works]  # runs that other tests left half-way
    yield
    assert [work for work in loop("cpu")._works if work not in before] == []
    assert [work for work in loop("cpu")._tasks if work not in before] == []


def written(path: Path, seed: int) -> tuple[Path, dict[str, float]]:
    """A graph of additions and steps in random order, and what each output is."""
    rng = random.Random(seed)
    nodes: dict[str, object] = {
        "start": {"type": "toy:arith.Add", "inputs": {"a": "request.a"}, "params": {"plus": 1.0}}
    }
    values = {"start": 3.0}
    read: set[str] = set()
    for i in range(rng.randint(3, 25)):
        a, b = rng.choice([*values]), rng.choice([*values])
        read |= {a, b}
        plus = float(rng.randint(1, 3))
        name = f"n{i}"
        nodes[name] = {
            "type": "toy:arith.Add",
            "inputs": {"a": f"{a}.sum", "b": f"{b}.sum"},
            "params": {"plus": plus},
        }
        values[name] = values[a] + values[b] + plus
    wanted = [*(set(values) - read), *rng.sample(sorted(read), k=min(2, len(read)))]
    data = {
        "title": "random",
        "checkpoint": str(GRAPHS.parent / "toy_model"),
        "request": {"a": {"type": "float", "default": 2.0}},
        "nodes": nodes,
        "outputs": {f"o{i}": f"{name}.sum" for i, name in enumerate(wanted)},
    }
    file = path / f"random_{seed}.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return file, {f"o{i}": values[name] for i, name in enumerate(wanted)}


def check_order(events: list[Event]) -> None:
    """Each node begins once, ends once after that, and its value is dropped once, later."""
    assert isinstance(events[0], Planned)
    begun: list[str] = []
    ended: list[str] = []
    freed: list[str] = []
    for event in events:
        if isinstance(event, NodeStarted):
            assert event.node not in begun
            begun.append(event.node)
        elif isinstance(event, NodeDone):
            assert event.memoised or event.node in begun
            assert event.node not in ended
            ended.append(event.node)
        elif isinstance(event, Freed):
            assert event.node in ended
            assert event.node not in freed
            freed.append(event.node)
    assert set(begun) <= set(ended)
    assert len(ended) == events[0].nodes or any(
        isinstance(e, NodeDone) and e.memoised for e in events
    )


@pytest.mark.parametrize("seed", range(12))
def test_runs_of_random_graphs_end_with_what_is_right(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    graphs = [written(tmp_path, seed * 10 + i) for i in range(3)]
    memo = rng.choice([0, 1, 512])
    runs: list[Run] = []
    expected: list[dict[str, float]] = []
    for _ in range(rng.randint(2, 6)):
        file, outputs = rng.choice(graphs)
        runtime = Runtime.load(None, {"memo.max_mb": memo}, graph=str(file))
        runs.append(runtime.start(outputs=[*outputs]))
        expected.append(outputs)
    events: dict[Run, list[Event]] = {run: [] for run in runs}
    for run, event in together(runs, batch=rng.choice([1, 4])):
        events[run].append(event)
    for run, outputs in zip(runs, expected, strict=True):
        assert run.result.outputs == outputs
        check_order(events[run])


@pytest.mark.parametrize("seed", range(6))
def test_random_cancellations_and_failures_disturb_nobody(seed: int) -> None:
    rng = random.Random(seed)
    names = [rng.choice(["steps", "fail", "stop"]) for _ in range(6)]
    runs: list[Run] = []
    for name in names:
        if name == "fail":
            runs.append(Runtime.load(graph="toy_failing").start(outputs=["nothing"]))
        else:
            runtime = Runtime.load(None, {"memo": "off"}, graph="toy")
            runs.append(runtime.start(outputs=["steps"], steps=rng.randint(3, 9)))
    after = rng.randint(1, 8)
    for count, _ in enumerate(together(runs)):
        if count == after:
            for run, name in zip(runs, names, strict=True):
                if name == "stop":
                    run.cancel()
    for run, name in zip(runs, names, strict=True):
        if name == "fail":
            with pytest.raises(NodeFailed):
                _ = run.result
        elif name == "stop":
            with pytest.raises(Cancelled):
                _ = run.result
        else:
            assert run.result.outputs["steps"] >= 3


def test_threads_with_runs_of_their_own_all_end(tmp_path: Path) -> None:
    graphs = [written(tmp_path, 100 + i) for i in range(4)]
    wrong: list[object] = []

    def work(i: int) -> None:
        file, outputs = graphs[i]
        runtime = Runtime.load(graph=str(file))
        for _ in range(5):
            found = runtime.generate(outputs=[*outputs]).outputs
            if found != outputs:
                wrong.append((i, found, outputs))

    before = threading.active_count()
    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert threading.active_count() == before
    assert not torch.is_inference_mode_enabled()
