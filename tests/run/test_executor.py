"""The executor on toy nodes: order, freeing, the memo, cancelling, failing."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_nodes import arith

from runtime import Cancelled, NodeFailed, Runtime
from runtime.events import Freed, NodeDone, Planned, Stepped
from runtime.run.memo import ResultMemo

GRAPHS = Path(__file__).parents[1] / "data/graphs"
ENGINE = Path(__file__).parents[2] / "runtime/run"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(GRAPHS))
    arith.calls.clear()


def toy(**overrides: object) -> Runtime:
    return Runtime.load(None, dict(overrides), graph="toy")


@pytest.mark.parametrize(
    ("request_", "outputs", "expected", "calls"),
    [
        ({}, ["more"], {"more": 10.0}, ["Tensor 4", "Total", "Add 4.0 4.0", "Add 2.0 8.0"]),
        ({"n": 2}, ["more"], {"more": 6.0}, ["Tensor 2", "Total", "Add 2.0 2.0", "Add 2.0 4.0"]),
        ({"a": 0.0}, ["more"], {"more": 8.0}, ["Tensor 4", "Total", "Add 4.0 4.0"]),
        ({"steps": 2}, ["steps"], {"steps": 2}, ["Slow 0", "Slow 1"]),
    ],
    ids=["all", "smaller", "bypassed", "steps"],
)
def test_outputs_and_calls(
    request_: dict[str, object], outputs: list[str], expected: dict[str, object], calls: list[str]
) -> None:
    result = toy().generate(outputs=outputs, **request_)
    assert result.outputs == expected
    assert arith.calls == calls


def test_seeds_decide_what_is_drawn() -> None:
    runtime = toy()
    one, two, again = (runtime.generate(outputs=["number"], seed=s).outputs for s in (1, 2, 1))
    assert one == again != two


def test_events_tell_steps_and_frees() -> None:
    events = list(toy().start(outputs=["more", "steps"]))
    assert isinstance(events[0], Planned)
    assert [(e.index, e.count) for e in events if isinstance(e, Stepped)] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    assert {e.node for e in events if isinstance(e, Freed)} == {"ones", "total", "sum"}


def test_a_second_run_asks_only_what_changed() -> None:
    runtime = toy()
    runtime.generate(outputs=["more"])
    arith.calls.clear()
    rows = runtime.generate(outputs=["more"]).rows
    assert arith.calls == []
    assert [(r["node"], r["memoised"]) for r in rows] == [("more", True)]
    runtime.generate(outputs=["more"], a=7.0)
    assert arith.calls == ["Add 7.0 8.0"]


def test_the_memo_can_be_off() -> None:
    runtime = toy(memo="off")
    runtime.generate(outputs=["more"])
    arith.calls.clear()
    runtime.generate(outputs=["more"])
    assert len(arith.calls) == 4


def test_cancel_between_two_steps() -> None:
    run = toy().start(outputs=["steps"], steps=100)
    with pytest.raises(Cancelled):  # noqa: PT012  # the loop is what is cancelled
        for event in run:
            if isinstance(event, Stepped) and event.index == 2:
                run.cancel()
    assert arith.calls == ["Slow 0", "Slow 1"]
    with pytest.raises(Cancelled, match="the run was cancelled"):
        _ = run.result
    with pytest.raises(RuntimeError, match="not finished"):
        _ = toy().start(outputs=["steps"]).result


def test_a_failing_node_tells_where_and_with_what() -> None:
    with pytest.raises(NodeFailed) as caught:
        Runtime.load(graph="toy_failing").generate(outputs=["nothing"])
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("tests/plugins/toy_nodes/arith.py:")
    assert lines[0].endswith("  ZeroDivisionError: a toy mistake")
    assert lines[1].startswith("    in node `fail` (toy:arith.Fail, ")
    assert lines[1].endswith("toy_failing.yaml:3:3) failed")
    assert lines[2:] == [
        "    a: 10.0",
        "    latents: Latents (1, 4) float32 cpu",
        "    caused by KeyError: 'what began it'",
    ]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_rows_of_a_result() -> None:
    result = toy().generate(outputs=["steps"])
    assert [(r["node"], r["type"]) for r in result.rows] == [("slow", "toy:arith.Slow")]
    assert len(result.denoise_steps_ms) == 3
    assert set(result.memory["after"]) >= {"allocated_mb", "peak_host_anon_mb"}


def test_events_of_nodes_come_in_data_flow_order() -> None:
    done = [e.node for e in toy().start(outputs=["more"]) if isinstance(e, NodeDone)]
    assert done == ["ones", "total", "sum", "more"]


def test_memo_drops_the_least_recently_used() -> None:
    memo = ResultMemo(3 * 256)
    for key in "abc":
        memo.put(key, key)
    memo.touch("a")
    memo.put("d", "d")
    assert memo.keys() == {"a", "c", "d"}
    assert memo.nbytes == 3 * 256
    assert memo.find("b") is None
    kept = memo.find("a")
    assert kept is not None
    assert kept.value == "a"


def test_the_engine_stays_readable_in_one_sitting() -> None:
    lines = [path.read_text("utf-8").count("\n") for path in ENGINE.glob("*.py")]
    assert sum(lines) <= 1550, "move out of runtime/run what is not the engine"
