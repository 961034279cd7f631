"""The command works whatever lies beside it, and says which package it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["runtime.py", "nodes.py", "server.py", "nodes", "server"])
def test_files_named_as_our_packages(name: str, tmp_path: Path) -> None:
    if name.endswith(".py"):
        (tmp_path / name).write_text("raise SystemExit(7)\n", "utf-8")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(7)\n", "utf-8")
    done = run(tmp_path, "-m", "cli.main", "generate", "--dry-run", "--prompt", "a red circle")
    assert done.returncode == 0, done.stderr
    wrong_port = run(tmp_path, "-m", "cli.main", "serve", "--port", "99999", "--output-path", "o")
    assert wrong_port.returncode == 2
    assert "99999" in wrong_port.stderr


def test_a_script_with_a_server_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("raise SystemExit(7)\n", "utf-8")
    (tmp_path / "draw.py").write_text(
        "from runtime import Runtime\nprint(Runtime.load().graph.name)\n", "utf-8"
    )
    assert run(tmp_path, "draw.py").stdout == "demo\n"


def test_version_names_the_package_and_its_place(tmp_path: Path) -> None:
    first = run(tmp_path, "-m", "cli.main", "version").stdout.splitlines()[0]
    assert first.startswith("sglang-graph ")
    assert first.endswith(f" in {ROOT}")
