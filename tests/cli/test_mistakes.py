"""Every mistake on a command line or in a config file: the exact message, exit code 2, no torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import main

DATA = Path(__file__).parents[1] / "data" / "mistakes.yaml"
ROWS: list[dict[str, Any]] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
HEAVY = ("torch", "diffusers", "transformers")
ALL_ROWS = f"""
import contextlib, io, os, sys, pathlib, tempfile, yaml
from cli.main import main
for row in yaml.safe_load(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")):
    folder = pathlib.Path(tempfile.mkdtemp(dir=sys.argv[2]))
    for name, content in row.get("files", {{}}).items():
        raw = content if isinstance(content, bytes) else content.encode()
        folder.joinpath(name).write_bytes(raw)
    os.chdir(folder)
    with contextlib.redirect_stderr(io.StringIO()):
        assert main(["generate", *row["argv"]]) == 2, row["name"]
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, (row["name"], loaded)
"""
QUICK = f"""
import contextlib, io, sys
from cli.main import main
for argv in (["--help"], ["generate", "--help"], ["serve", "--help"], ["graphs"], ["version"]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(argv) == 0, argv
    assert said.getvalue(), argv
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, (argv, loaded)
"""


def lay(files: dict[str, str | bytes], folder: Path) -> None:
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_message(
    row: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lay(row.get("files", {}), tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert main(["generate", *row["argv"]]) == 2
    said = capsys.readouterr()
    separator = "\n" if said.err.startswith("sglang generate: error:\n") else " "
    assert said.err == f"sglang generate: error:{separator}{row['says']}\n"
    assert said.out == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("code", [ALL_ROWS, QUICK], ids=["mistakes", "help and lists"])
def test_no_torch(code: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", code, str(DATA), str(tmp_path)]
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, env=os.environ, timeout=50
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argv", "who", "message", "help"),
    [
        (["generat"], "sglang", "there is no command `generat`", "did you mean `generate`?"),
        (
            ["x"],
            "sglang",
            "there is no command `x`",
            "there are: generate, plan, inspect, graphs, nodes, version, serve",
        ),
        (
            ["--prompt"],
            "sglang",
            "`--prompt` comes before a command",
            "sglang generate --prompt ...",
        ),
        (
            ["serve", "--hots", "0.0.0.0"],
            "sglang serve",
            "there is no flag `--hots`",
            "did you mean `--host`?",
        ),
        (
            ["graphs", "x"],
            "sglang graphs",
            "unexpected word `x`",
            "sglang graphs [--json | --markdown | --check | --schema], or new, verify",
        ),
        (["version", "x"], "sglang version", "unexpected word `x`", "sglang version"),
    ],
)
def test_commands(
    argv: list[str], who: str, message: str, help: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err == f"{who}: error: {message}\nhelp: {help}\n"


def test_no_command_is_help_and_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: sglang COMMAND")


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--promt", "x", "--debug"]) == 2
    assert capsys.readouterr().err.startswith("Traceback")
