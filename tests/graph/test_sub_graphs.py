"""Graphs as nodes of graphs: their request is their inputs, their outputs are outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import Runtime
from runtime.contract.values import Rng
from tests.support.toy_graphs import refused, run, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _toys_on_the_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(ROOT / "tests/data/graphs"))


def test_a_graph_as_a_node(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        request: {x: {type: float, required: true}, y: {type: float, default: 10}, z: {type: float},
                  seed: {type: seed, default: 5}}
        nodes:
          sum: {type: "toy:arith.Add", inputs: {a: request.x, b: request.y}}
          more: {type: "toy:arith.Add", inputs: {a: sum.sum, b: request.z}}
          draw: {type: "toy:arith.Draw", inputs: {rng: request.rng}}
        outputs: {sum: more.sum, number: draw.number}
        """,
        "inner",
    )
    path = write(
        tmp_path,
        """
        request: {a: {type: float, default: 1}, seed: {type: seed, default: 2}}
        nodes:
          left: {graph: inner, inputs: {x: request.a, seed: request.seed}}
          right: {graph: inner, inputs: {x: left.sum, y: 0.5, seed: 2}}
          both: {type: "toy:arith.Sum", inputs: {numbers: [left.sum, right.sum]}}
          draws: {type: "toy:arith.Sum", inputs: {numbers: [left.number, right.number]}}
        outputs: {sum: both.sum, draws: draws.sum}
        """,
    )
    number = float(Rng.from_seed(2).normal((1,))[0])
    assert run(path, "sum", "draws") == (22.5, pytest.approx(2 * number))
    nodes = Runtime.load(graph=path).graph.nodes
    assert {"left/sum", "left/more", "right/draw"} <= set(nodes)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("{graph: inner, inputs: {x: 1, yy: 2}}", "has no request field `yy`"),
        ("{graph: inner}", "`x`, which graph `inner` requires, is not connected."),
        (
            "{graph: iner, inputs: {x: 1}}",
            "there is no graph `iner`\n    help: did you mean `inner`?",
        ),
        ("{graph: inner, inputs: {x: 1, y: -1}}", "`y` expects at least 0, got -1"),
        ("{graph: inner, type: a.B, inputs: {x: 1}}", "a node with `graph` has no `type`"),
        ("{graph: mine}", "graph `mine` contains itself"),
        ("{graph: inner, inputs: {x: 1}, each: {y: [1, 2]}}", "`left` is a list of 2"),
    ],
)
def test_a_graph_that_is_connected_wrongly(tmp_path: Path, node: str, message: str) -> None:
    write(
        tmp_path,
        """
        request: {x: {type: float, required: true}, y: {type: float, default: 10, min: 0}}
        nodes: {sum: {type: "toy:arith.Add", inputs: {a: request.x, b: request.y}}}
        outputs: {sum: sum.sum}
        """,
        "inner",
    )
    path = write(tmp_path, f"nodes:\n  left: {node}\noutputs: {{sum: left.sum}}\n")
    assert message in refused(path).replace("`left.sum` is a list", "`left` is a list")


def test_an_output_that_a_sub_graph_has_not(tmp_path: Path) -> None:
    path = write(tmp_path, "nodes:\n  left: {graph: toy_files}\noutputs: {sum: left.fiel}\n")
    assert "`left` has no output `fiel`. It has:" in refused(path)


def test_help_of_a_graph_stands_where_its_outputs_are(tmp_path: Path) -> None:
    text = "nodes: {left: {graph: toy, help: the left one}}\noutputs: {more: left.more}\n"
    path = write(tmp_path, text)
    assert Runtime.load(graph=path).graph.nodes["left/more"].help == "the left one"


def test_a_component_of_a_sub_graph_is_set_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "checkpoint: pkg://demo/checkpoint\n"
        'nodes: {one: {graph: demo, inputs: {prompt: {value: "a red star"}}}}\n'
        "outputs: {video: one.video}\n"
    )
    changed = {"components.scheduler.class": "DPMSolverMultistepScheduler"}
    facts = Runtime.load(None, changed, graph=path).engine.facts
    assert facts["scheduler"].class_name == "DPMSolverMultistepScheduler"
    said = refused(path, {"components.scheduller.class": "X"})
    assert "has no component `scheduller`" in said
    assert "did you mean `scheduler`?" in said


def test_two_sub_graphs_with_components_that_differ(tmp_path: Path) -> None:
    for name, dtype in (("first", "float32"), ("second", "float16")):
        (tmp_path / f"{name}.yaml").write_text(
            f"defaults: [demo, _self_]\ncomponents: {{vae: {{dtype: {dtype}}}}}\n"
        )
    path = tmp_path / "mine.yaml"
    text = (
        "checkpoint: pkg://demo/checkpoint\nnodes:\n"
        "  one: {graph: first, inputs: {prompt: a red star}}\n"
        "  two: {graph: second, inputs: {prompt: a red star}}\n"
        "  both: {type: pictures.Stack, inputs: {pictures: [one.video, two.video]}}\n"
        "outputs: {video: both.picture}\n"
    )
    path.write_text(text)
    assert "component `vae` differs between `one` and `two`." in refused(path)
    path.write_text(text + "components: {vae: {dtype: float32}}\n")
    assert Runtime.load(graph=path).engine.facts["vae"].dtype == "float32"
    path.write_text(
        text.replace("graph: second,", "graph: second, components: {vae: vae_2},")
        + "components: {vae_2: {path: demo/checkpoint/vae}}\n"
    )
    graph = Runtime.load(graph=path).graph
    assert {n: c.dtype for n, c in graph.components.items() if n.startswith("vae")} == {
        "vae": "float32", "vae_2": "float16"
    }  # fmt: skip
