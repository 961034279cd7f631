"""The demo equals diffusers with what the first command of the README installs: no accelerate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.main import main

pytestmark = pytest.mark.usefixtures("only_trained")
# A folder on PYTHONPATH that makes Python find no accelerate, as where it is not installed.
HIDDEN = """
import importlib.metadata, importlib.util, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "accelerate":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.split(".")[0] == "accelerate" else found(name, package)
)
"""


def without_accelerate(folder: Path, *words: str) -> str:
    (folder / "sitecustomize.py").write_text(HIDDEN)
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "accelerate" not in done.stderr
    return done.stdout


def test_verify_needs_no_prompt_and_no_accelerate(tmp_path: Path) -> None:
    out = without_accelerate(tmp_path, "graphs", "verify", "demo", "--num-inference-steps", "2")
    assert out.splitlines()[0].startswith("graph demo beside WanPipeline")
    assert out.splitlines()[-1].startswith("equal: ")


def test_the_vanilla_pipeline_of_the_demo(tmp_path: Path) -> None:
    words = ["--prompt", "circle", "--num-inference-steps", "2", "--output-path", str(tmp_path)]
    out = without_accelerate(
        tmp_path, "generate", "--backend", "diffusers", *words, "--output-file-name", "theirs.png"
    )
    assert main(["generate", *words, "--output-file-name", "ours.png"]) == 0
    files = (Path(out.strip()), tmp_path / "ours.png")
    theirs, ours = (np.asarray(Image.open(path), np.int16) for path in files)
    assert theirs.std() > 5, "a flat picture proves nothing"
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize(
    "words",
    [
        ["--flow-shift", "5"],
        ["components.scheduler.config.flow_shift=5"],
        ["components.scheduler.config.solver_order=1"],
    ],
    ids=" ".join,
)
def test_the_reference_has_the_graph_s_own_components(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graphs", "verify", "demo", "--num-inference-steps", "3", *words]) == 0
    out = capsys.readouterr().out
    assert "takes no" not in out
    assert out.splitlines()[-1].startswith("equal: ")
