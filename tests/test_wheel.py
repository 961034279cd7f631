"""A wheel, installed in another folder, runs the demo from any working directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("runtime", "nodes", "graphs", "conf", "cli", "server", "demo")


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_runs_the_demo(tmp_path: Path) -> None:
    source, site, elsewhere = (tmp_path / n for n in ("source", "site", "elsewhere"))
    source.mkdir()
    elsewhere.mkdir()
    for name in PACKAGES:  # a copy: nothing that an earlier build left behind gets in
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), cwd=source)
    (wheel,) = tmp_path.glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", str(site), str(wheel), cwd=tmp_path)
    command = (sys.executable, "-m", "cli.main", "generate", "--prompt", "a red circle")
    out = run(
        *command, "--num-inference-steps", "2", "--output-file-name", "x.png",
        cwd=elsewhere, PYTHONPATH=str(site),
    )  # fmt: skip
    assert (elsewhere / out.strip()).read_bytes().startswith(b"\x89PNG")
    assert not list(site.glob("tests*"))
    assert all(
        (site / name / "py.typed").is_file() for name in ("runtime", "nodes", "cli", "server")
    )
