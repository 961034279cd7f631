"""Every request field is a flag, a key and a KEY=VALUE, also those of a graph of one's own."""

from pathlib import Path

import pytest

from cli.flags import flag_table
from cli.main import main
from cli.parser import parse
from cli.request_flags import graph_named
from runtime import Raw, Runtime

GRAPH = """\
title: two prompts
checkpoint: {model}
request:
  prompt_2: {{type: text, required: true, help: what the other half shows}}
  prompts: {{type: text, many: true}}
  weights: {{type: float, many: true}}
  mirror: {{type: bool, default: false}}
  device: {{type: text, default: none}}
  n: {{type: int, default: 2}}
nodes:
  ones: {{type: "toy:arith.Tensor", params: {{}}, inputs: {{n: request.n}}}}
  total: {{type: "toy:arith.Total", inputs: {{latents: ones.latents}}}}
outputs:
  number: total.sum
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def graph(tmp_path: Path, data: Path) -> str:
    file = tmp_path / "two.yaml"
    file.write_text(GRAPH.format(model=data / "toy_model"))
    return str(file)


def settings(*words: str) -> dict[str, object]:
    return {s.dotted: s.value for s in parse(words).settings if s.path[0] == "request"}


def test_every_field_of_every_graph_is_a_flag() -> None:
    names = flag_table().names
    for row in Runtime.graphs():
        fields = Runtime.load(None, graph=row["name"]).fields if row["checkpoint"] else {}
        assert all(names[name].path == ("request", name) for name in fields), row["name"]


def test_flags_of_a_graph_of_ones_own(graph: str) -> None:
    words = ["--graph", graph, "--prompt-2", "a", "--mirror", "--weights", "0.5", "1"]
    assert settings(*words) == {
        "request.prompt_2": "a",
        "request.mirror": True,
        "request.weights": ["0.5", "1"],
    }
    assert settings(f"graph={graph}", "prompt_2=a") == {"request.prompt_2": "a"}
    assert flag_table(graph).names["prompt_2"].help == "what the other half shows"


def test_a_list_ends_where_a_field_begins(graph: str) -> None:
    words = [f"--graph={graph}", "--prompts", "a", "b=c", "d", "n=3", "prompt_2=x", "graph.x=1"]
    assert settings(*words) == {
        "request.prompts": ["a", "b=c", "d"],
        "request.n": "3",
        "request.prompt_2": "x",
    }
    words = ["--image-path", "a.png", "b.png", "strength=0.5", "components.vae.path=x"]
    assert settings(*words) == {
        "request.image_path": ["a.png", "b.png"],
        "request.strength": "0.5",
    }


def test_a_config_file_may_name_the_graph(graph: str, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"graph: {graph}\nprompt_2: a\n")
    assert graph_named(["--config", str(config)]) == graph
    assert settings("--config", str(config), "--prompt-2", "b") == {"request.prompt_2": Raw("b")}
    assert graph_named(["--config", "nowhere.yaml", "--prompt", "x"]) == ""


def test_a_name_that_is_taken_stays_what_it_was(graph: str) -> None:
    line = parse(["--graph", graph, "--device", "cpu", "request.device=x"])
    assert [s.dotted for s in line.settings[1:]] == ["placement.device", "request.device"]


def test_what_is_required_can_be_given(graph: str, capsys: Capture) -> None:
    assert main(["generate", "--graph", graph, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "`--prompt-2` is required and not given\nhelp: add `--prompt-2 ...`\n" in said


def test_help_describes_the_graph(graph: str, capsys: Capture) -> None:
    assert main(["generate", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--num-inference-steps N     denoising steps (1 to 1000, default 12)" in said
    assert "--image-path" not in said
    assert "--skip-guidance-layers" not in said
    assert main(["generate", "--graph", "flux1", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--height PX" in said
    assert "default 1024" in said
    assert "--num-frames" not in said
    assert main(["generate", "--graph", "flux1", "--help", "sampling"]) == 0
    taken, _, others = capsys.readouterr().out.partition("Graph `flux1` does not take:")
    assert "--true-cfg-scale" in taken
    assert "--num-frames" in others
    assert main(["generate", "--graph", graph, "--help", "prompt"]) == 0
    assert "--prompt-2 TEXT             what the other half shows (required)" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("page", ["memory", "Placement", "memry"])
def test_help_of_a_group(page: str, capsys: Capture) -> None:
    assert main(["generate", "--help", page]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Memory and placement:\n  --device DEVICE")
    assert "--prompt" not in said


def test_a_group_that_is_not_there(capsys: Capture) -> None:
    assert main(["generate", "--help", "zzz"]) == 2
    assert "help: --help takes one of: prompt, sampling, output, model" in capsys.readouterr().err


def test_help_of_a_model_that_cannot_be_opened(capsys: Capture) -> None:
    assert main(["generate", "--model-path", "/nowhere", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--image-path" in said
    assert "which one would run is not known" in said


def test_help_of_serve(capsys: Capture) -> None:
    assert main(["serve", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--port N" in said
    assert "--log-requests-format" not in said
    assert main(["serve", "--help-all"]) == 0
    assert "--flow-shift" in capsys.readouterr().out
