"""`sglang graphs new`: it fits, is its base with every comment taken out, overwrites nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.main import main
from runtime import Runtime
from runtime.configure.resolve import edit, resolve_graph
from runtime.graph.check import check
from runtime.graph.model import Graph

ROOT = Path(__file__).parents[2]
NAMES = sorted(p.stem for p in (ROOT / "graphs").glob("*.yaml"))


def graph(name: str | Path) -> Graph:
    return check(resolve_graph([edit("graph", str(name))])).graph


def parts(graph: Graph) -> tuple[object, ...]:
    return graph.nodes, graph.request, graph.components, graph.outputs


@pytest.mark.parametrize("base", NAMES)
def test_it_is_its_base_commented_and_not(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graphs", "new", "mine", "--from", base, "--output", str(tmp_path / "new")]) == 0
    path = tmp_path / "new/mine.yaml"
    assert capsys.readouterr().out == f"{path}\n"
    assert parts(graph(path)) == parts(graph(base))
    head, _, rest = path.read_text("utf-8").partition("# request:")
    taken_out = re.sub("^# ", "", f"# request:{rest}", flags=re.MULTILINE)
    alone = "\n".join(x for x in head.splitlines() if not x.startswith("defaults"))
    path.write_text(f"{alone}\n{taken_out}", "utf-8")
    assert parts(graph(path)) == parts(graph(base)), "nothing of the base is left out"


def test_what_a_node_does_and_could_be_given_is_said(tmp_path: Path) -> None:
    assert main(["graphs", "new", "mine", "--from=flux1", f"--output={tmp_path}"]) == 0
    text = (tmp_path / "mine.yaml").read_text("utf-8")
    assert "#   # Follow a schedule from noise to latents, one prediction" in text
    assert "#   #   also: params {packed: bool}" in text
    assert "title: mine, after FLUX.1 text to picture\n" in text


def test_a_variant_of_the_demo_runs_and_is_a_base_itself(tmp_path: Path) -> None:
    for name, base in (("first", "demo"), ("second", "first")):
        assert main(["graphs", "new", name, "--from", base, "--output", str(tmp_path)]) == 0
    runtime = Runtime.load(graph=tmp_path / "second.yaml")
    made = runtime.generate(prompt="a star", num_inference_steps=1, height=64, width=64)
    assert made.outputs["video"].frames.shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes one name, got none"),
        (["a", "b"], "takes one name, got 2: a, b"),
        (["mine"], "the graph to start from is not given"),
        (["mine", "--from"], "--from is given no value"),
        (["mine", "--from", "dmeo"], "there is no graph `dmeo`\nhelp: did you mean `demo`?"),
        (["mine", "--form", "demo"], "there is no flag `--form`\nhelp: did you mean `--from`?"),
        (["my-graph", "--from", "demo"], "`my-graph` cannot be the name of a graph"),
        (["flux1", "--from", "demo"], "there is a graph `flux1` already"),
        (["there", "--from", "demo"], "there.yaml is there already"),
        (["mine", "--from", "demo", "--output", "there.yaml"], "cannot write there.yaml/mine.yaml"),
    ],
)  # fmt: skip
def test_mistakes(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("mine", "utf-8")
    assert main(["graphs", "new", *words]) == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["there.yaml"]
    assert Path("there.yaml").read_text("utf-8") == "mine"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graphs", "new", "--help"]) == 0
    assert "usage: sglang graphs new NAME --from GRAPH" in capsys.readouterr().out
    assert main(["graphs", "--help"]) == 0
    assert "sglang graphs new NAME" in capsys.readouterr().out
