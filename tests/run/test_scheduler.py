"""The loop of a device: runs beside each other, batches, shared results, standing still."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_nodes import arith

from runtime import Cancelled, NodeFailed, Runtime
from runtime.api import Run, together
from runtime.events import Event, NodeDone, Recovered, Stepped
from runtime.run.residency import residency
from runtime.run.scheduler import loop

GRAPHS = Path(__file__).parents[1] / "data/graphs"
PROMPTS = ("a red circle on a blue background", "a green square on a white background")
SMALL = {"height": 64, "width": 64, "num_inference_steps": 3}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(GRAPHS))
    arith.calls.clear()
    here = loop("cpu")
    before = [*here._works]  # runs that other tests left half-way
    yield
    assert [work for work in here._works if work not in before] == []
    assert [work for work in here._tasks if work not in before] == []
    assert not [t for t in threading.enumerate() if t.name == "transfer"]


def requests(count: int) -> list[dict[str, Any]]:
    """Requests that differ in prompt and seed."""
    return [{"prompt": PROMPTS[i % 2], "seed": i, **SMALL} for i in range(count)]


def frames(run: Run) -> torch.Tensor:
    found: torch.Tensor = run.result.outputs["video"].frames
    return found


@pytest.mark.parametrize("count", [2, 8])
def test_runs_beside_each_other_equal_their_single_runs(count: int) -> None:
    runtime = Runtime.load(None, {"memo": "off"})
    alone = [
        runtime.generate(outputs=["video"], **r).outputs["video"].frames for r in requests(count)
    ]
    runs = [runtime.start(outputs=["video"], **request) for request in requests(count)]
    order = [runs.index(run) for run, event in together(runs) if isinstance(event, Stepped)]
    assert order[:count] == [*range(count)], "one step each, in turn"
    for run, expected in zip(runs, alone, strict=True):
        assert torch.equal(frames(run), expected)


def test_a_batch_equals_single_runs_and_takes_fewer_calls() -> None:
    runtime = Runtime.load(None, {"memo": "off"})
    alone = [runtime.generate(outputs=["video"], **r).outputs["video"].frames for r in requests(4)]
    runs = [runtime.start(outputs=["video"], **request) for request in requests(4)]
    counted = counting("transformer", "text_encoder", "vae")
    for _ in together(runs, batch=4):
        pass
    assert counted == {"transformer": 6, "text_encoder": 2, "vae": 1}, "two passes of guidance"
    for run, expected in zip(runs, alone, strict=True):
        assert (frames(run).int() - expected.int()).abs().max() <= 1


def counting(*names: str) -> dict[str, int]:
    """Count the forwards of resident components from now on; of a VAE, of its decoder."""
    counts = dict.fromkeys(names, 0)
    for held in residency().resident():
        if held.name in names:
            net = getattr(held.value, "decoder", None) if held.name == "vae" else held.value
            assert net is not None

            def count(*_: Any, name: str = held.name) -> None:
                counts[name] += 1

            hook = net.register_forward_pre_hook(count)
            HOOKS.append(hook)
    return counts


HOOKS: list[Any] = []


@pytest.fixture(autouse=True)
def _hooks() -> Iterator[None]:
    yield
    while HOOKS:
        HOOKS.pop().remove()


def test_equal_nodes_of_two_runs_are_computed_once() -> None:
    runtime = Runtime.load(graph="toy")
    runs = [runtime.start(outputs=["more"], n=4) for _ in range(3)]
    events = [(runs.index(run), event) for run, event in together(runs)]
    assert arith.calls == ["Tensor 4", "Total", "Add 4.0 4.0", "Add 2.0 8.0"]
    assert [run.result.outputs["more"] for run in runs] == [10.0] * 3
    shared = [e for i, e in events if isinstance(e, NodeDone) and i]
    assert all(event.memoised for event in shared)


def test_a_run_that_nobody_waits_for_stands_still() -> None:
    runtime = Runtime.load(None, {"memo": "off"}, graph="toy")
    left = runtime.start(outputs=["steps"], steps=3)
    for event in left:
        if isinstance(event, Stepped):
            break
    runtime.generate(outputs=["more"])
    assert [call for call in arith.calls if call.startswith("Slow")] == ["Slow 0"]
    assert [e.index for e in left if isinstance(e, Stepped)] == [2, 3]


def test_one_run_fails_and_the_others_go_on() -> None:
    runtime, failing = Runtime.load(graph="toy"), Runtime.load(graph="toy_failing")
    good, bad = runtime.start(outputs=["more"]), failing.start(outputs=["nothing"])
    for _ in together([bad, good]):
        pass
    assert good.result.outputs == {"more": 10.0}
    with pytest.raises(NodeFailed, match="a toy mistake"):
        _ = bad.result


def test_one_run_is_cancelled_and_the_others_go_on() -> None:
    runtime = Runtime.load(None, {"memo": "off"}, graph="toy")
    runs = [runtime.start(outputs=["steps"], steps=n) for n in (100, 3)]
    for run, event in together(runs):
        if run is runs[0] and isinstance(event, Stepped) and event.index == 2:
            run.cancel()
    assert runs[1].result.outputs == {"steps": 3}
    with pytest.raises(Cancelled):
        _ = runs[0].result
    assert len(arith.calls) <= 3 + 3, "within one call"


def test_a_batch_that_memory_does_not_hold_is_split() -> None:
    runtime = Runtime.load(None, {"memo": "off"})
    alone = [runtime.generate(outputs=["video"], **r).outputs["video"].frames for r in requests(2)]
    net = next(held.value for held in residency().resident() if held.name == "transformer")

    def full(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        if len(options["hidden_states"]) > 1:
            raise torch.OutOfMemoryError("out of memory: a toy device")

    HOOKS.append(net.register_forward_pre_hook(full, with_kwargs=True))
    runs = [runtime.start(outputs=["video"], **request) for request in requests(2)]
    events: list[Event] = [event for _, event in together(runs, batch=2)]
    rungs = [event.rung for event in events if isinstance(event, Recovered)]
    assert "split" in rungs
    for run, expected in zip(runs, alone, strict=True):
        assert torch.equal(frames(run), expected) or (
            (frames(run).int() - expected.int()).abs().max() <= 1  # text was encoded as a batch
        )


def test_threads_share_a_device() -> None:
    runtime = Runtime.load(None, {"memo": "off"})
    alone = [runtime.generate(outputs=["video"], **r).outputs["video"].frames for r in requests(3)]
    found: dict[int, torch.Tensor] = {}

    def work(i: int) -> None:
        found[i] = runtime.generate(outputs=["video"], **requests(3)[i]).outputs["video"].frames

    threads = [threading.Thread(target=work, args=[i]) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], alone[i]) for i in range(3))
