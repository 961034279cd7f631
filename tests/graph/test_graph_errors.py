"""Each wrong graph in data/bad_graphs has its message beside it, verbatim."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import Runtime, UserError

ROOT = Path(__file__).parents[2]
BAD = sorted((ROOT / "tests/data/bad_graphs").glob("*.yaml"))


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_message(path: Path, monkeypatch: pytest.MonkeyPatch, loads_nothing: None) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SGLANG_GRAPH_PATH", "tests/data/graphs")
    with pytest.raises(UserError) as caught:
        _ = Runtime.load(graph=path.relative_to(ROOT)).engine.checked
    assert f"{caught.value}\n" == path.with_suffix(".txt").read_text("utf-8")


def test_every_bad_graph_has_a_message() -> None:
    assert len(BAD) >= 50
    assert all(path.with_suffix(".txt").is_file() for path in BAD)


def test_an_override_is_named_as_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    path = "tests/data/graphs/toy.yaml"
    with pytest.raises(UserError) as caught:
        _ = Runtime.load(None, {"nodes.sum.inputs.b": "ones.latents"}, graph=path).engine.checked
    assert str(caught.value).startswith(
        "python  nodes.sum.inputs.b\n"
        "    expects float, but `ones.latents` is Latents.\n"
        "    help: what fits: `total.sum`, `same.sum`, `more.sum`, `draw.number`, `slow.steps`, "
        "`request.n`\n"
    )
