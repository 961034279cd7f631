"""A server that cannot keep its jobs says why and ends with exit code 2, before it listens."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.field.test_full_disk import Disk
from tests.support.servers import ROOT, serving

SERVE = (sys.executable, "-m", "cli.main", "serve", "--port", "0", "--output-path")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    if not made.is_mounted:
        pytest.skip("this user may not mount a disk")
    yield made
    made.close()


def refused(folder: Path) -> str:
    """What a server that does not start says on stderr."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*SERVE, str(folder)], capture_output=True, text=True, timeout=120, check=False,
        env=environment, cwd=folder.parent,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "listening on" not in done.stderr
    assert "--output-path" in done.stderr
    return done.stderr


def test_an_empty_folder_on_a_full_disk(disk: Disk) -> None:
    disk.fill()
    assert "No space left on device" in refused(disk.folder)


def test_a_folder_with_jobs_on_a_full_disk(disk: Disk) -> None:
    with serving(disk.folder):
        pass
    disk.fill()
    assert "full" in refused(disk.folder) or "No space" in refused(disk.folder)


def overwrite(path: Path) -> None:
    path.write_bytes(b"x" * 9000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


def drop(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'"):
            if not name.startswith("sqlite_"):
                database.execute(f"DROP TABLE {name}")


def empty(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [overwrite, cut, drop, empty])
def test_a_broken_database(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    with serving(folder):
        pass
    (path,) = folder.rglob("jobs.sqlite3")
    for log in path.parent.glob("jobs.sqlite3-*"):
        log.unlink()
    spoil(path)
    assert "jobs" in refused(path.parent)
