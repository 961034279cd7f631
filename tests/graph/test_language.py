"""The graph language: literals, lists, sub-graphs, each, behind, constants, seeds, node files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runtime import Runtime
from runtime.contract.values import Rng
from tests.support.toy_graphs import refused, run, write

ROOT = Path(__file__).parents[2]
SUM_OF_ALL = "outputs: {sum: all.sum}\n"
NODE_FILE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import NamedTuple

@dataclass(frozen=True, kw_only=True)
class Double:
    '''Double a number.'''
    class Out(NamedTuple):
        twice: float
    def run(self, *, number: float) -> Out:
        return self.Out(2 * number)
"""


@pytest.fixture(autouse=True)
def _toys_on_the_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(ROOT / "tests/data/graphs"))


def test_a_literal_on_an_input(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        nodes:
          ones: {type: "toy:arith.Tensor", inputs: {n: 3}}
          total: {type: "toy:arith.Total", inputs: {latents: ones.latents}}
          sum: {type: "toy:arith.Add", inputs: {a: total.sum, b: 0.5}}
        outputs: {sum: sum.sum}
        """,
    )
    assert run(path) == 3.5
    plan = Runtime.load(graph=path).plan()
    assert "12 B" in str(plan), "what is fixed is known to the estimate"
    assert Runtime.load(None, {"nodes.ones.inputs.n": 5}, graph=path).generate().outputs == {
        "sum": 5.5
    }


def test_a_literal_of_another_type(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        nodes:
          ones: {type: "toy:arith.Tensor", inputs: {n: 2.5}}
          total: {type: "toy:arith.Total", inputs: {latents: 7}}
          sum: {type: "toy:arith.Add", inputs: {a: total.sum, b: word}}
        outputs: {sum: sum.sum, ones: ones.latents}
        """,
    )
    said = refused(path)
    assert "mine.yaml:4:45  nodes.ones.inputs.n\n    expects int, found 2.5." in said
    assert "nodes.total.inputs.latents\n    expects Latents, found 7.\n    help: what fits" in said
    assert (
        "nodes.sum.inputs.b\n    expects an edge `node.port` or a literal, found the word" in said
    )


def test_a_literal_decides_a_bypass(tmp_path: Path) -> None:
    text = """
        request: {b: {type: float, default: 7}}
        nodes:
          same: {type: "toy:arith.Add", inputs: {a: 0, b: request.b}}
        outputs: {sum: same.sum}
        """
    path = write(tmp_path, text.replace("same.sum", "again.sum").replace(
        "        outputs", '          again: {type: "toy:arith.Add", inputs: {a: same.sum, b: 1}}\n'
        "        outputs"))  # fmt: skip
    assert "not run same" in " ".join(str(Runtime.load(graph=path).plan()).split())
    assert run(path) == 8


def test_a_parameter_from_an_edge(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        request: {plus: {type: float, default: 2}, seed: {type: seed, default: 1}}
        nodes:
          first: {type: "toy:arith.Add", inputs: {a: 1, plus: request.plus}}
          second: {type: "toy:arith.Add", inputs: {a: 1}, params: {plus: first.sum}}
        outputs: {sum: second.sum, draw: draw.number}
        """.replace(
            "        outputs",
            '          draw: {type: "toy:arith.Draw", inputs: {rng: request.rng}}\n        outputs',
        ),
    )
    assert run(path) == 4
    assert run(path, plus=10) == 12


def test_a_list_of_edges(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        request: {a: {type: float, default: 2}}
        nodes:
          one: {type: "toy:arith.Add", inputs: {a: 1}}
          all: {type: "toy:arith.Sum", inputs: {numbers: [one.sum, request.a, 4, one.sum]}}
          fixed: {type: "toy:arith.Sum", inputs: {numbers: [1, 2]}, params: {times: all.sum}}
        outputs: {sum: all.sum, fixed: fixed.sum}
        """,
    )
    assert run(path, "sum", "fixed") == (8, 24)
    one = 'nodes: {one: {type: "toy:arith.Add", inputs: {a: 1}}, all: {type: '
    bad = write(tmp_path, one + '"toy:arith.Sum", inputs: {numbers: one.sum}}}\n' + SUM_OF_ALL)
    assert "help: write a list: [one.sum]" in refused(bad)
    bad = write(tmp_path, one + '"toy:arith.Add", inputs: {a: [one.sum, 1]}}}\n' + SUM_OF_ALL)
    assert "`a` is float, and takes one edge, not a list" in refused(bad)


def test_a_node_for_each_entry_of_a_list(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        nodes:
          one: {type: "toy:arith.Add", each: {a: [1, 2, 3], plus: [0, 0.5, 0]}, inputs: {b: 10}}
          all: {type: "toy:arith.Sum", inputs: {numbers: [one.sum, 100]}}
          last: {type: "toy:arith.Add", inputs: {a: one/3.sum}}
        outputs: {sum: all.sum, last: last.sum}
        """,
    )
    assert run(path, "sum", "last") == (136.5, 13)


@pytest.mark.parametrize(
    ("each", "message"),
    [
        ("{a: [1, 2], b: [1]}", "its lists have different lengths: `a` has 2, `b` has 1."),
        ("{a: request.many}", "expects a list that the graph writes down"),
        ("[1, 2]", "expects a map of lists"),
        ("{a: []}", "expects a list that the graph writes down, found []"),
    ],
)
def test_an_each_that_is_wrong(tmp_path: Path, each: str, message: str) -> None:
    path = write(tmp_path, f'nodes:\n  one: {{type: "toy:arith.Add", each: {each}}}\n'
                 '  all: {type: "toy:arith.Sum", inputs: {numbers: one.sum}}\n'
                 "outputs: {sum: all.sum}\n")  # fmt: skip
    assert message in refused(path)


def test_a_node_behind_an_output(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        nodes:
          one: {type: "toy:arith.Add", inputs: {a: 1}}
          two: {type: "toy:arith.Add", inputs: {a: one.sum, b: one.sum}}
        outputs: {two: two.sum, one: one.sum}
        """,
        "base",
    )
    path = tmp_path / "mine.yaml"
    path.write_text(
        "defaults: [base, _self_]\nnodes:\n"
        '  more: {type: "toy:arith.Add", behind: one.sum, params: {plus: 5}}\n'
        '  times: {type: "toy:arith.Add", behind: one.sum, inputs: {b: 100}}\n'
    )
    assert run(path, "two", "one") == (212, 106)
    assert run(tmp_path / "base.yaml", "two", "one") == (2, 1)
    path.write_text("defaults: [base, _self_]\nnodes:\n"
                    '  more: {type: "toy:arith.Tensor", behind: one.sum}\n')  # fmt: skip
    assert "none of its inputs could take `one.sum`" in refused(path)
    path.write_text("defaults: [base, _self_]\nnodes:\n"
                    '  more: {type: "toy:arith.Add", behind: on.sum}\n')  # fmt: skip
    assert "there is no output `on.sum` to insert it behind." in refused(path)


def test_constants_and_anchors(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        constants: {size: 3, more: 0.5}
        anchors:
          add: &add {type: "toy:arith.Add", params: {plus: constants.more}}
        request: {n: {type: int, default: constants.size}}
        nodes:
          ones: {type: "toy:arith.Tensor", inputs: {n: request.n}}
          total: {type: "toy:arith.Total", inputs: {latents: ones.latents}}
          sum: {<<: *add, inputs: {a: total.sum, b: constants.size}}
        outputs: {sum: sum.sum}
        """,
    )
    assert run(path) == 6.5
    assert Runtime.load(None, {"constants.size": 4}, graph=path).generate().outputs == {"sum": 8.5}
    path = write(
        tmp_path,
        """
        constants: {size: 3, other: 1}
        nodes: {one: {type: "toy:arith.Add", inputs: {a: constants.sise}}}
        outputs: {sum: one.sum}
        """,
    )
    said = refused(path)
    assert "help: did you mean `constants.size`?" in said
    assert "nothing reads constant `other`." in said


def test_further_seeds_are_generators(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        request: {seed: {type: seed, default: 1}, seed_2: {type: seed, default: 2}}
        nodes:
          first: {type: "toy:arith.Draw", inputs: {rng: request.rng}}
          second: {type: "toy:arith.Draw", inputs: {rng: request.seed_2}}
          third: {type: "toy:arith.Draw", inputs: {rng: 3}}
          split: {type: rng.Split, inputs: {rng: request.seed_2}}
          left: {type: "toy:arith.Draw", inputs: {rng: split.first}}
          right: {type: "toy:arith.Draw", inputs: {rng: split.second}}
        outputs: {a: first.number, b: second.number, c: third.number, d: left.number,
                  e: right.number}
        """,
    )
    numbers = run(path, *"abcde")
    expected = [float(Rng.from_seed(seed).normal((1,))[0]) for seed in (1, 2, 3)]
    assert list(numbers[:3]) == expected
    assert len(set(numbers)) == 5
    assert run(path, "b", seed_2=7) == float(
        torch.randn(1, generator=torch.Generator().manual_seed(7))
    )


def test_a_node_file_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(NODE_FILE)
    path = write(tmp_path, """
        nodes: {two: {type: "./own.py:Double", inputs: {number: 4}, help: twice as much}}
        outputs: {number: two.twice}
        """)  # fmt: skip
    said = refused(path)
    assert "which is neither in the working directory nor on the search path" in said
    assert Runtime.load(None, {"model.trust_remote_code": True}, graph=path).generate().outputs == {
        "number": 8
    }
    monkeypatch.chdir(tmp_path)
    assert run(path) == 8
    (tmp_path / "own.py").write_text(NODE_FILE.replace("2 *", "3 *"))
    assert run(path) == 12, "a changed file is read again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("@dataclass(frozen=True, kw_only=True)", ""), "it lacks the decorator `@dataclass("),
        (("frozen=True, ", ""), "it lacks the decorator `@dataclass("),
        (("Out(NamedTuple)", "Result(NamedTuple)"), "it lacks a class `Out(NamedTuple)` inside it"),
        (("def run", "def go"), "it lacks a method `run(self, *, ...) -> Out`"),
        (("class Double", "class Duble"), "`own.py` has no class `Double`"),
        (("'''Double a number.'''", "x = 1 / 0"), "own.py:8 raises ZeroDivisionError"),
        (("-> Out:", "-> Out"), "own.py:11 is not Python: expected ':'"),
    ],
)  # fmt: skip
def test_a_class_that_is_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(NODE_FILE.replace(*change))
    path = write(tmp_path, """
        nodes: {two: {type: "./own.py:Double", inputs: {number: 4}}}
        outputs: {number: two.twice}
        """)  # fmt: skip
    assert message in refused(path).replace(".\n", "\n")


def test_a_rule_that_asks_for_what_the_node_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rule = (
        "    @staticmethod\n    def bypass(*, numbr: float) -> str | None:\n        return None\n"
    )
    (tmp_path / "own.py").write_text(NODE_FILE.replace("    def run", f"{rule}    def run"))
    path = write(tmp_path, 'nodes: {two: {type: "./own.py:Double", inputs: {number: 4}}}\n'
                 "outputs: {number: two.twice}\n")  # fmt: skip
    said = refused(path)
    assert "`bypass` of ./own.py:Double asks for `numbr`, which it has not. It has: number." in said
    assert "did you mean `number`?" in said


def test_an_output_has_the_type_of_the_input(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        nodes:
          ones: {type: "toy:arith.Tensor", inputs: {n: 3}}
          pick: {type: "toy:arith.Pick", inputs: {one: ones.latents, two: ones.latents}}
          total: {type: "toy:arith.Total", inputs: {latents: pick.value}}
          wrong: {type: "toy:arith.Add", inputs: {a: pick.value}}
        outputs: {total: total.sum, wrong: wrong.sum}
        """,
    )
    assert "expects float, but `pick.value` is Latents." in refused(path)
    fixed = Runtime.load(None, {"nodes.wrong.inputs.a": "total.sum"}, graph=path)
    assert fixed.generate().outputs == {"total": 3}
