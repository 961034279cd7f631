"""Runs of one Runtime: what is kept between them, what they leave, and several at a time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_nodes import arith

from runtime import Destination, NodeFailed, Runtime, UserError
from runtime.checkpoint.variant import Variant
from runtime.contract.values import Latents
from runtime.events import NodeDone, Planned, Stepped
from runtime.run.residency import WantedComponent, residency

GRAPHS = Path(__file__).parents[1] / "data/graphs"
CLIP = {"prompt": "a red circle moving right on a blue background", "num_frames": 5}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(GRAPHS))
    arith.calls.clear()


def files(**overrides: object) -> Runtime:
    return Runtime.load(None, dict(overrides), graph="toy_files")


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as problem:
        return problem


def test_an_output_may_be_a_value_of_the_request() -> None:
    wanted = ["said", "same", "zero"]
    assert files().generate(outputs=wanted).outputs == {"said": 4.0, "same": 4.0, "zero": 0.0}


def test_a_node_is_not_bypassed_to_an_empty_value() -> None:
    plan = files().plan(outputs=["zero"])
    assert plan.outputs["zero"] == ("zero", "sum")


def test_a_file_is_written_again_though_what_follows_was_kept(tmp_path: Path) -> None:
    runtime, to = files(), Destination(tmp_path, "one")
    for _ in range(2):
        assert runtime.generate(outputs=["size"], destination=to).outputs == {"size": 3}
        (tmp_path / "one.txt").unlink()


def test_nodes_that_write_the_same_file_write_it_once(tmp_path: Path) -> None:
    to = Destination(tmp_path, "one")
    made = files().generate(outputs=["file", "again"], destination=to).outputs
    assert made["file"] == made["again"]
    assert made["file"].path.read_text() == "4.0"


def test_another_content_under_the_same_path_is_read(tmp_path: Path) -> None:
    runtime, path = files(), tmp_path / "number.txt"
    for number in ("1.5", "2.5"):
        path.write_text(number)
        found = runtime.generate(outputs=["number"], path=str(path)).outputs
        assert found == {"number": float(number)}


def test_a_plan_can_recall_what_the_memo_drops_meanwhile() -> None:
    runtime = Runtime.load(graph="toy")
    runtime.engine.memo.max_bytes = 3 * 256
    for i in range(6):
        n = 4 + i % 2
        made = runtime.generate(outputs=["more", "number"], a=float(i), n=n).outputs
        assert made["more"] == 2 * n + i


def test_a_result_that_is_changed_changes_nothing_that_is_kept() -> None:
    runtime = Runtime.load(None, {"outputs.ones": "ones.latents"}, graph="toy")
    for _ in range(2):
        latents = runtime.generate(outputs=["ones"]).outputs["ones"].parts["x"]
        assert latents.tolist() == [[1.0] * 4]
        latents += 1
        latents.numpy()[...] = 5


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("yield", "TypeError: a node yields lists of calls, or StepDone; this is 1.0"),
        ("return", "TypeError: toy:arith.Misbehave returned float, not its Out"),
        ("stop", "RuntimeError: generator raised StopIteration"),
    ],
)
def test_a_node_that_breaks_a_rule_fails_by_name(how: str, says: str) -> None:
    runtime = files()
    session, cpu = runtime.engine, torch.device("cpu")
    wanted = WantedComponent("net", Variant("toy", "Toy"), cpu, 0, lambda: None)
    vars(session)["wanted"] = {"net": wanted}
    with pytest.raises(NodeFailed) as caught:
        runtime.generate(outputs=["wrong"], how=how)
    assert says in str(caught.value)


def test_a_kept_failure_keeps_no_tensors() -> None:
    runtime = Runtime.load(None, {"memo": "off"}, graph="toy_failing")
    failure = outcome(lambda: runtime.generate(outputs=["nothing"]))
    assert isinstance(failure, NodeFailed)
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Latents]


def test_a_run_that_was_left_goes_on() -> None:
    run = Runtime.load(graph="toy").start(outputs=["steps"])
    for event in run:
        if isinstance(event, Stepped):
            break
    later = list(run)
    assert not [e for e in later if isinstance(e, Planned)]
    assert [e.node for e in later if isinstance(e, NodeDone)] == ["slow"]
    assert run.result.outputs == {"steps": 3}
    assert arith.calls == ["Slow 0", "Slow 1", "Slow 2"]


def test_two_runs_at_once_spoil_neither() -> None:
    seeds = (1, 2, 3)
    runtime = Runtime.load(None, {"memo": "off"})
    alone = {s: runtime.generate(outputs=["video"], seed=s, **CLIP).outputs for s in seeds}
    again: dict[int, Any] = {}

    def run(seed: int) -> None:
        other = Runtime.load(None, {"memo": "off"})  # of the same components
        again[seed] = outcome(lambda: other.generate(outputs=["video"], seed=seed, **CLIP).outputs)

    threads = [threading.Thread(target=run, args=[seed]) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in seeds:
        assert torch.equal(again[seed]["video"].frames, alone[seed]["video"].frames)


def test_a_seed_without_a_default_must_be_given() -> None:
    runtime = Runtime.load(None, {"request.seed.default": None}, graph="toy")
    with pytest.raises(UserError, match=r"`request\.seed` is required and not given"):
        runtime.generate(outputs=["number"])
    assert runtime.generate(outputs=["number"], seed=np.int64(3)).outputs


def test_one_output_may_be_named_alone() -> None:
    assert files().generate(outputs="said").outputs == {"said": 4.0}


def test_files_go_where_the_output_policy_says(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    told = {"output": {"path": "~", "file_name": "two.v1.jpg", "quality": "low"}}
    runtime = Runtime.load(None, told)
    made = runtime.generate(outputs=["file"], prompt="x", num_inference_steps=1).outputs["file"]
    assert made.path == tmp_path / "two.v1.jpg"
    assert residency().resident()
