"""Formats of a graph: an HTML page that is whole and tells no machine path; dot, JSON; times."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.graph import catalog
from runtime.visualize import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("nothing_loaded")
GRAPHS = ("demo", "flux1", "glm_image", "qwen_image_edit_plus", "diffusers", "sd3", "wan2_2_i2v")


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def data(page: str) -> dict[str, object]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    read = json.loads(found[1])
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize("name", GRAPHS)
def test_a_page_is_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = shown(capsys, name, "--format", "html")
    outside = re.findall(r"""(?:src|href)=|url\(|@import|fetch\(|XMLHttp""", page)
    assert not outside, "a page asks for another file"
    assert "default-src 'none'" in page
    for link in re.findall(r"https?://[^\s\"'<]+", page):
        assert link == "http://www.w3.org/2000/svg" or not link.startswith("http://"), link
    assert str(ROOT) not in page
    nodes = data(page)["nodes"]
    assert isinstance(nodes, list)
    for node in nodes:
        assert (ROOT / node["file"]).is_file()
        line = (ROOT / node["file"]).read_text("utf-8").splitlines()[node["line"] - 1]
        assert node["type"].split(".")[-1] in line or line.startswith("@dataclass")
        assert node["doc"].startswith(node["summary"])
        assert f'data-box="node {node["name"]}"' in page


CLICK = """<script>
document.querySelector('{}').dispatchEvent(new MouseEvent("click", {{bubbles: true}}));
document.title = document.getElementById("panel").innerText.replaceAll("\\n", "|");</script>"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("clicked", "told"),
    [
        ('[data-box="node decode"] .name', ("decode|", "nodes/vae.py:", "class DecodeVideo:",
         "Decode normalised latents to RGB frames.", "graphs/wan2_1_t2v.yaml:")),
        ('[data-field="request.height"]', ("request.height|", "height of a frame", "noise.height")),
    ],
)  # fmt: skip
def test_a_click_shows_what_it_is(
    clicked: str, told: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or "google-chrome"
    page = shown(capsys, "wan2_1_t2v", "--format", "html").replace(
        "</body>", f"{CLICK.format(clicked)}</body>"
    )
    file = tmp_path / "page.html"
    file.write_text(page, "utf-8")
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", file.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=50)
    found = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found
    for text in told:
        assert text in found[1]


def test_no_machine_path_of_a_graph_or_a_component(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "demo/checkpoint", tmp_path / "mine")
    graph = tmp_path / "own.yaml"
    graph.write_text("defaults: [demo, _self_]\ntitle: my </script><b>&\n", "utf-8")
    vae = f"components.vae.path={tmp_path / 'mine/vae'}"
    words = (str(graph), "--model-path", str(tmp_path / "mine"), vae, "--stage", "plan")
    for format in ("html", "svg", "json", "dot"):
        text = shown(capsys, *words, "--format", format)
        assert str(tmp_path) not in text
        assert "my </script>" not in text or format in {"json", "dot"}
    page = shown(capsys, *words, "--format", "html")
    rows = data(page)["components"]
    assert isinstance(rows, list)
    assert {row["name"]: row["path"] for row in rows}["vae"] == ".../vae"


def test_ports_say_axes_and_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(shown(capsys, "demo", "--format", "json"))
    nodes = {node["name"]: node for node in told["nodes"]}
    (port,) = nodes["positive"]["outputs"]
    assert port["type"] == "TextEmbeds"
    assert port["axes"] == "tokens b l d, mask b l, pooled b d"
    latents, fps = nodes["decode"]["inputs"]
    assert latents["about"] == "`video`: 1 c t h w, zero mean and unit variance per channel"
    assert fps["source"] == "request.fps"
    assert fps["value"] == "16"
    assert "vae: Component[VAE]" in nodes["decode"]["declaration"]


def test_a_plan_is_a_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown(capsys, "demo", "--stage", "plan", "--format", "html")
    assert page.count('<g class="lane load">') == 5
    assert page.count('<g class="lane run">') == 10
    assert "predicted peak 15.7 MB" in page


def test_what_the_passes_changed(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown(capsys, "demo", "--stage", "fold", "--format", "html", "guidance_scale=1")
    assert "<td>prune</td><td>guided</td><td>bypassed" in page
    assert "<td>denoise.denoiser</td><td>guided.denoiser → cond.denoiser</td>" in page
    text = shown(capsys, "demo", "--stage", "fold", "prompt=x", "negative_prompt=x")
    assert "dropped by fold\n  negative         equal to `positive`" in text


def test_measured_times_and_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"node": "denoise", "duration_ms": 1500.0, "nbytes": 2_000_000, "peak_nbytes": 3_000_000},
        {"node": "decode", "duration_ms": 20.5, "memoised": False},
        {"node": "decode", "duration_ms": 0.0, "memoised": True},
    ]
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"nodes": rows}), "utf-8")
    text = shown(capsys, "demo", "--perf", str(file))
    assert "    took    1.50 s, 2.0 MB in use, peak 3.0 MB" in text
    assert "    took    20.5 ms, 2 runs, 1 recalled" in text
    assert "measured: 1.52 s in nodes" in text
    drawing = shown(capsys, "demo", "--perf", str(file), "--format", "svg")
    assert "took 1.50 s" in drawing
    plan = shown(capsys, "demo", "--perf", str(file), "--stage", "plan")
    assert plan.endswith("  decode           20.5 ms, 2 runs, 1 recalled\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "run.json: No such file or directory"),
        ("{", "run.json is no JSON"),
        ("[]", "run.json has no times of nodes"),
        ('{"nodes": [{"node": 1}]}', "run.json has no times of nodes"),
        ('{"nodes": [{"node": "decod", "duration_ms": 1}]}', "did you mean `decode`?"),
    ],
)
def test_a_wrong_measurement(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    if text is not None:
        file.write_text(text, "utf-8")
    assert main(["demo", "--perf", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_passes_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "flux1", "--stage", "prune")
    assert "dropped by prune\n  guided           bypassed: its denoiser is `cond.den" in text
    text = shown(capsys, "wan2_1_t2v", "--stage", "fold", "prompt=x", "negative_prompt=x")
    assert "  negative         equal to `positive`" in text
    assert "positive_pooled" in shown(capsys, "flux1", "--stage", "fold", "true_cfg_scale=2")
    assert "seen: qwen_edit.ResizeToArea" in shown(
        capsys, "qwen_image_edit_plus", "--stage", "fold"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["wan2_1_t2v", "--stage", "plan"], "needs a model and none is given"),
        (
            ["wan2_2_t2v", "--stage", "prune"],
            "prune of graph `wan2_2_t2v` needs `boundary_ratio`, which node `routed` is bypassed "
            "by, and which the checkpoint's configs state (`boundary_ratio`)\n    help: add "
            "`model.path=FOLDER` or a hub id, or `request.boundary_ratio=...`",
        ),
        (["wan2_1_t2v", "--stage", "prune", "--output", "fil"], "did you mean `file`?"),
    ],
)
def test_what_needs_a_model_says_so(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert main(["wan2_2_t2v", "--stage", "prune", "boundary_ratio=0.9"]) == 0


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("name", sorted(catalog.entries()))
def test_graphviz_reads_every_graph(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, name, "--format", "dot")
    done = subprocess.run(
        ["dot", "-Tcanon"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
