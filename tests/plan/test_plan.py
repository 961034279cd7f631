"""Plans compared as text: no weights, no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import Runtime
from runtime.plan.items import Load, Recall, RunNode


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch, nothing_loaded: None) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def toy(**overrides: object) -> Runtime:
    return Runtime.load(None, dict(overrides), graph="tests/data/graphs/toy.yaml")


def test_equal_nodes_run_once_and_unneeded_ones_not_at_all() -> None:
    assert str(toy().plan(outputs=["more"])) == "\n".join(
        [
            "plan of graph `toy` on cpu: 4 nodes run",
            "   1  run     ones             toy:arith.Tensor                                  16 B",
            "   2  run     total            toy:arith.Total",
            "   3  free    ones",
            "   4  run     sum              toy:arith.Add",
            "   5  free    total",
            "   6  run     more             toy:arith.Add",
            "   7  free    sum",
            "      not run draw             no requested output needs it",
            "      not run slow             no requested output needs it",
            "      not run again            equal to `ones`",
            "      not run same             equal to `total`",
            "predicted peak: at least 16 B (weights 0 B; 3 of 4 nodes do not predict their memory)",
        ]
    )


def test_a_bypassed_node_is_its_input() -> None:
    plan = toy().plan(outputs=["more"], a=0.0)
    assert plan.dropped["more"] == "bypassed: its sum is `sum.sum`"
    assert plan.outputs["more"] == ("sum", "sum")


def test_guidance_off_needs_no_negative_prompt() -> None:
    demo = Runtime.load()
    guided = demo.plan(prompt="x", outputs=["video"])
    plain = demo.plan(prompt="x", outputs=["video"], guidance_scale=1.0)
    ran = {i.node for i in guided.items if isinstance(i, RunNode)}
    without = {i.node for i in plain.items if isinstance(i, RunNode)}
    assert ran - without == {"negative", "uncond", "guided"}


def test_equal_prompts_are_encoded_once() -> None:
    plan = Runtime.load().plan(prompt="x", negative_prompt="x", outputs=["video"])
    assert plan.dropped["negative"] == "equal to `positive`"


def test_kept_results_are_recalled_and_their_inputs_not_run() -> None:
    runtime = toy()
    runtime.generate(outputs=["more"])
    plan = runtime.plan(outputs=["more"])
    assert [type(i) for i in plan.items] == [Recall]
    other = runtime.plan(outputs=["more"], a=5.0)
    assert other.items[0] == Recall("sum", "toy:arith.Add")


def test_a_plan_predicts_the_weights_and_loads_none(loads_nothing: None) -> None:
    demo = Runtime.load()
    loads = [i for i in demo.plan(prompt="x", outputs=["file"]).items if isinstance(i, Load)]
    assert {i.component: i.nbytes for i in loads if i.nbytes} == {
        "text_encoder": 769920,
        "transformer": 11480064,
        "vae": 3435792,
    }


def test_a_plan_of_one_node() -> None:
    plan = toy().plan(outputs=["steps"])
    assert str(plan).startswith("plan of graph `toy` on cpu: 1 node runs\n")
    assert str(plan).endswith("; 1 of 1 node does not predict its memory)")


def test_weights_are_loaded_only_when_a_network_is_asked() -> None:
    plan = Runtime.load().plan(prompt="x", outputs=["file"])
    order = [i.component if isinstance(i, Load) else i.node for i in plan.items]
    assert order.index("noise") < order.index("transformer") < order.index("denoise")
    assert order.index("denoise") < order.index("vae") < order.index("save")


def test_text_nodes_tell_their_size_and_binding_costs_nothing() -> None:
    plan = Runtime.load().plan(prompt="x", max_sequence_length=100, outputs=["video"])
    sizes = {i.node: i.nbytes for i in plan.items if isinstance(i, RunNode)}
    assert sizes["positive"] == 4 * 100 * 96
    assert sizes["cond"] == sizes["guided"] == 0
    assert "3 of 9 nodes do not predict" in str(plan)
