"""What the README says is run: its commands, its Python, its graphs; its drawing is current."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runtime import Runtime
from runtime.files.video_files import read_video
from runtime.visualize import main as visualize
from tests.support.servers import serving

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("only_trained")
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [block.strip() for block in found]


def test_two_single_line_commands() -> None:
    install_and_run, install_and_test = blocks("bash")
    assert "\n" not in install_and_run + install_and_test
    assert install_and_run.startswith("python3 -m pip install . && sglang generate ")
    assert install_and_test == 'python3 -m pip install ".[test]" && python3 -m pytest'


def test_the_first_command_draws_a_picture(tmp_path: Path) -> None:
    words = blocks("bash")[0].split("&& sglang ")[1]
    done = subprocess.run(
        f"{sys.executable} -m cli.main {words} --output-path {tmp_path} --num-inference-steps 2",
        shell=True, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.splitlines()[-1]).read_bytes().startswith(b"\x89PNG")
    assert done.stderr.startswith("No `--model-path` given: using the demo model")


def test_the_python_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)
    assert names["frames"].shape == (1, 128, 128, 3)  # type: ignore[attr-defined]  # a tensor
    assert names["run"].result.outputs["video"]  # type: ignore[attr-defined]  # a Run


def test_the_graph_and_its_drawing_are_the_current_ones(capsys: pytest.CaptureFixture[str]) -> None:
    shown, variant = blocks("yaml")
    text = (ROOT / "graphs/wan2_1_t2v.yaml").read_text("utf-8")
    assert shown in text
    assert visualize(["wan2_1_t2v", "--format", "mermaid"]) == 0
    assert blocks("mermaid")[0] == capsys.readouterr().out.strip()
    assert yaml.safe_load(variant)


def test_the_variant_runs(tmp_path: Path) -> None:
    path = tmp_path / "unguided.yaml"
    path.write_text(blocks("yaml")[1], "utf-8")
    runtime = Runtime.load(graph=path)
    ran = {row["node"] for row in runtime.generate(prompt="a star", num_inference_steps=1).rows}
    assert ran == {"positive", "cond", "noise", "schedule", "denoise", "decode"}


def test_the_server_section(tmp_path: Path) -> None:
    (curl,), (sdk,) = blocks("sh"), blocks("py")
    with serving(tmp_path) as server:
        there = server.url.removeprefix("http://")
        done = subprocess.run(
            curl.replace("127.0.0.1:30010", there), shell=True, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert json.loads(done.stdout)["data"][0]["url"].startswith(server.url)
        script = sdk.replace("127.0.0.1:30010", there)
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    frames, _ = read_video(tmp_path / "square.mp4")
    assert (frames.shape[0], frames.shape[3]) == (17, 3)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).is_file(), target
