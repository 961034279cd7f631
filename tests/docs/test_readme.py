"""What the README says is run: its commands, its Python, its graph; its drawing is current."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.main import main
from runtime import Runtime
from runtime.files.video_files import read_video
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


def test_the_third_command_verifies_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    verify = blocks("sh")[0]
    assert main([*verify.split()[1:], "--num-inference-steps", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("equal: ")


def test_the_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[0], {})
    with Image.open(tmp_path / "star.png") as star:
        assert star.size == (128, 128)


def test_its_drawing_is_of_the_current_graph() -> None:
    drawing = (ROOT / "docs/images/graph.svg").read_text("utf-8")
    for name, node in Runtime.load().graph.nodes.items():
        assert f">{name}<" in drawing, "python -m runtime.visualize demo --format svg"
        assert f">{node.type}<" in drawing


def test_its_pictures_are_small_and_move() -> None:
    with Image.open(ROOT / "docs/images/clip.webp") as clip:
        assert getattr(clip, "n_frames", 1) == 17
    assert sum(path.stat().st_size for path in (ROOT / "docs/images").iterdir()) < 500_000


def test_the_variant_runs(tmp_path: Path) -> None:
    path = tmp_path / "unguided.yaml"
    path.write_text(blocks("yaml")[0], "utf-8")
    runtime = Runtime.load(graph=path)
    ran = {row["node"] for row in runtime.generate(prompt="a star", num_inference_steps=1).rows}
    assert ran == {"positive", "cond", "noise", "schedule", "denoise", "decode"}


def test_the_server_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GRAPH_UNTRAINED", "1")  # `serving` makes the demo small
    (_, curl), (sdk,) = blocks("sh"), blocks("py")
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


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_where_is_it_names_files() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    answers = page.split("## Where is it?")[1].split("##")[0].splitlines()[3:]
    assert len([answer for answer in answers if answer]) == 10
    for file in re.findall(r"`([\w/]+\.(?:py|yaml))`", "".join(answers)):
        assert (ROOT / file).is_file(), file


def test_decisions_are_numbered_pages() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("0*.md"))
    index = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    for number, page in enumerate(pages, 1):
        text = page.read_text("utf-8")
        assert text.startswith(f"# {number:04d} ")
        assert all(f"## {part}\n" in text for part in ("Context", "Decision", "Consequence"))
        assert text.count("\n") <= 40
        assert page.name in index
