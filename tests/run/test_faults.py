"""A failure names the file and line of a user's node first; a wrong output blames its node."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import main
from runtime import Runtime
from runtime.errors import NodeFailed

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "docs/examples/rules.py").read_text("utf-8")
PROMPT = "a red star on a blue background"
OWN = """
from __future__ import annotations
from dataclasses import dataclass
from typing import NamedTuple

@dataclass(frozen=True, kw_only=True)
class Halve:
    class Out(NamedTuple):
        half: float

    def run(self, *, number: float) -> Out:
        return self.Out({})
"""


def halved(folder: Path, result: str) -> str:
    (folder / "own.py").write_text(OWN.format(result))
    (folder / "mine.yaml").write_text(
        f"checkpoint: {ROOT / 'tests/data/toy_model'}\n"
        'nodes: {one: {type: "./own.py:Halve", inputs: {number: 3}},'
        ' two: {type: "toy:arith.Add", inputs: {a: one.half}}}\n'
        "outputs: {sum: two.sum}\n"
    )
    with pytest.raises(NodeFailed) as caught:
        Runtime.load(graph=folder / "mine.yaml").generate()
    return str(caught.value)


def test_the_line_of_a_users_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = halved(tmp_path, "number / 0")
    assert said.startswith(
        "own.py:12  ZeroDivisionError: division by zero\n"
        "    in node `one` (./own.py:Halve, mine.yaml:2:9) failed"
    )


def test_a_wrong_output_is_that_of_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert halved(tmp_path, "'half'").startswith(
        "node `one` (./own.py:Halve, mine.yaml:2:9) failed: TypeError: ./own.py:Halve returned str "
        "as `half`, which its Out declares as float"
    )


def test_the_line_of_a_users_denoiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.py").write_text(RULES.replace("step.index / step.count", "step.indx"))
    (tmp_path / "mine.yaml").write_text(
        'defaults: [demo, _self_]\nnodes: {guided: {type: "./rules.py:Halfway"}}\n'
    )
    words = ["generate", "--graph", "mine.yaml", "--prompt", PROMPT, "--num-inference-steps", "1"]
    assert main(words) == 1
    said = capsys.readouterr().err
    line = 1 + (tmp_path / "rules.py").read_text().split("step.indx")[0].count("\n")
    assert f"rules.py:{line}  AttributeError: 'Step' object has no attribute 'indx'" in said
    assert "in node `denoise` (denoise.Denoise, " in said
    assert "the code is that of node `guided` (./rules.py:Halfway)" in said
    assert "Traceback" not in said
