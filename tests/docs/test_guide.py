"""Every block of docs/graphs.md, from top to bottom, as a reader would do it in an empty folder.

A block whose first line is a comment with a file's name is that file. Of a console block every line
after a command must be in its output, in that order.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # it has no types

from cli.main import main
from runtime.inspect.json_schema import graph_schema
from runtime.visualize import main as visualize

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("only_trained")
PAGE = (ROOT / "docs/graphs.md").read_text("utf-8")
WRONG = {"wrong.yaml"}
# An environment that is not ours to change: the package goes into a folder of its own.
INSTALL = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", "site"]


class Block(NamedTuple):
    """A fenced block. file: the name in its first line."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        found = re.match(r"# ([\w/]+\.(?:yaml|toml|py))$", self.text.split("\n")[0])
        return found[1] if found else ""


def blocks() -> list[Block]:
    fences = re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [Block(f[1], f[2], PAGE[: f.start()].count("\n") + 1) for f in fences]


BLOCKS = blocks()


class Reader:
    """Follows the page in an empty folder: to reach a block it does all the blocks before it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done, self.names = folder, 0, dict[str, object]()

    def reach(self, index: int) -> None:
        for block in BLOCKS[self.done : index + 1]:
            self.done += 1
            if block.file:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, "utf-8")
            elif block.language == "python":
                exec(block.text, self.names)
            else:
                assert block.language == "console", f"line {block.line}: nothing runs this"
                for typed in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                    self.command(*typed.split("\n", 1))

    def command(self, line: str, wanted: str) -> None:
        words = shlex.split(line)
        with pytest.MonkeyPatch.context() as patch:
            while re.match(r"[A-Z_]+=", words[0]):
                patch.setenv(*words.pop(0).split("=", 1))
            code, out, err = run(words)
        assert code == (2 if "Nothing was loaded" in wanted or "already" in wanted else 0), err
        printed = iter(" ".join(x.split()) for x in f"{err}\n{out}".splitlines())
        for expected in wanted.splitlines():
            there = any(" ".join(expected.split()) in x for x in printed)
            assert there, f"{line}\nprints no `{expected}`:\n{err}\n{out}"


def run(words: list[str]) -> tuple[int, str, str]:
    """A command: exit code, stdout, stderr."""
    words, _, into = split_at(words, ">")
    inside: dict[tuple[str, ...], Callable[[list[str]], int]] = {
        ("sglang",): main, ("python", "-m", "runtime.visualize"): visualize
    }  # fmt: skip
    for head, function in inside.items():
        if tuple(words[: len(head)]) == head:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = function(words[len(head) :])
            break
    else:
        assert words[0] == "python", words
        more = INSTALL if words[1:4] == ["-m", "pip", "install"] else []
        done = subprocess.run(
            [sys.executable, *words[1:], *more], capture_output=True, text=True, check=False
        )
        importlib.invalidate_caches()  # what was installed is there for this process as well
        code, out, err = done.returncode, io.StringIO(done.stdout), io.StringIO(done.stderr)
    for file in into:
        Path(file).write_text(out.getvalue(), "utf-8")
    return code, "" if into else out.getvalue(), err.getvalue()


def split_at(words: list[str], mark: str) -> tuple[list[str], str, list[str]]:
    """Words before a mark, the mark, words after it; no mark: all before it."""
    at = words.index(mark) if mark in words else len(words)
    return words[:at], mark, words[at + 1 :]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("guide")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder / "site"))
        path = [str(folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        yield Reader(folder)
    for name in [n for n in sys.modules if n.split(".")[0] == "mixing"]:
        del sys.modules[name]


@pytest.mark.parametrize("index", range(len(BLOCKS)), ids=lambda i: f"line{BLOCKS[i].line}")
def test_block(index: int, reader: Reader) -> None:
    reader.reach(index)


def test_an_editor_finds_nothing_wrong(reader: Reader) -> None:
    reader.reach(len(BLOCKS) - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLANG_GRAPH_PATH", str(reader.folder))
        validator = Draft7Validator(graph_schema())
    for block in BLOCKS:
        if block.file.endswith(".yaml") and block.file not in WRONG:
            wrong = [e.message for e in validator.iter_errors(yaml.safe_load(block.text))]
            assert not wrong, block.file
    broken = {"nodes": {"m": {"type": "mixing:text.Mix", "inputs": {"c": "a.b"}}}}
    assert [*validator.iter_errors({**broken, "outputs": {"x": "m.embeds"}})]


def test_what_it_quotes_is_there() -> None:
    quoted = re.findall(r"(?:^    .+\n)+", PAGE.replace("```", ""), re.MULTILINE)
    row = (ROOT / "tests/support/tiny/wan.py").read_text("utf-8")
    graph = (ROOT / "graphs/flux1.yaml").read_text("utf-8")
    assert any(" ".join(q.split()) in " ".join(row.split()) for q in quoted if "Row(" in q)
    lines = " ".join(graph.split())
    assert any(" ".join(q.split()) in lines for q in quoted if "text_encoder_2" in q)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
