"""`sglang nodes`: every node with its ports, and one in full."""

from __future__ import annotations

import json

import pytest

from cli.main import main
from runtime.inspect.node_schema import declared


def test_all_nodes_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {type} (" in listed for type in declared()[0])
    assert "guidance: Guidance: nodes that combine" in listed
    assert main(["nodes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["type"] for row in rows} == {*declared()[0]}
    assert all(row["summary"] and row["about_group"] for row in rows if ":" not in row["type"])


def test_one_node_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "guidance.ClassifierFree"]) == 0
    page = capsys.readouterr().out
    assert "scale    guidance scale; at 1 the result is `cond` alone" in page
    assert "guided: {type: guidance.ClassifierFree, inputs: {" in page
    assert main(["nodes", "pictures.Grid"]) == 0
    page = capsys.readouterr().out
    assert "inputs: {pictures: [decode.video, decode.video]}" in page


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("guidanc", "did you mean `guidance`?"),
        ("guidance.ClassiferFree", "did you mean `guidance.ClassifierFree`?"),
        ("./nothing.py:Node", "there is no file `./nothing.py`"),
        ("--all", "unexpected word `--all`"),
    ],
)
def test_a_name_that_there_is_not(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nodes", word]) == 2
    assert message in capsys.readouterr().err
