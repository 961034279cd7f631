"""`sglang graphs` and docs/families.md; every graph checks and draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from runtime import Runtime
from runtime.configure.family_table import markdown
from runtime.configure.resolve import edit, resolve_graph
from runtime.visualize import main as visualize

ROOT = Path(__file__).parents[2]
NAMES = sorted(p.stem for p in (ROOT / "graphs").glob("*.yaml"))
TASKS = {"T2I", "I2I", "TI2I", "T2V", "I2V", "TI2V", "V2V"}


def test_the_page_of_families_is_current() -> None:
    page = (ROOT / "docs/families.md").read_text("utf-8")
    assert page == markdown(Runtime.graphs()), "sglang graphs --markdown > docs/families.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_graph_says_what_it_is(name: str) -> None:
    row = next(row for row in Runtime.graphs() if row["name"] == name)
    assert row["title"]
    assert row["components"]
    assert row["task"] in TASKS or name == "diffusers"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["text", "mermaid"])
def test_every_graph_checks_and_draws(
    name: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Runtime.check_graph(name)
    assert visualize([name, "--format", form]) == 0
    drawn = capsys.readouterr().out
    assert all(node in drawn for node in resolve_graph([edit("graph", name)]).nodes)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graphs"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("GRAPH")
    for words in (("flux1", "T2I", "1024x1024, 28 steps, guidance 3.5"), ("demo", "its own")):
        assert any(all(w in line for w in words) for line in table.splitlines())
    assert main(["graphs", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["flux1"]["defaults"]["num_inference_steps"] == 28
    assert "text_encoder_2" in rows["flux1"]["components"]


def test_a_graph_that_cannot_be_composed_is_still_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.yaml").write_text("title: x\ndefaults: [no_such_graph, _self_]\n", "utf-8")
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(tmp_path))
    assert main(["graphs"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("broken"))
    assert "broken.yaml:2:12  defaults: there is no graph `no_such_graph` to extend" in line
