"""The database below the jobs: kill -9, a second server, files that are no database."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import UserError
from server.job import Job
from server.jobs import Jobs

ROOT = Path(__file__).parents[2]


def using(path: Path, test: Callable[[Jobs], Awaitable[None]]) -> None:
    """Run a test against the jobs at `path`, and close them."""

    async def main() -> None:
        jobs = await Jobs.open(path)
        try:
            await test(jobs)
        finally:
            await jobs.close()

    asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "jobs.sqlite3"


def video(id: str) -> Job:
    return Job(id, "video", runs=({"prompt": "a red circle"},), created_at=100)


def test_close_lets_go_of_thread_files_and_lock(path: Path) -> None:
    async def main() -> None:
        for _ in range(3):
            jobs = await Jobs.open(path)
            await jobs.add(video(os.urandom(4).hex()))
            await jobs.close()
            await jobs.close()

    asyncio.run(main())
    assert sorted(p.name for p in path.parent.iterdir()) == ["jobs.sqlite3", "jobs.sqlite3.lock"]
    assert not [t for t in threading.enumerate() if t.name.startswith("jobs")]


# Adds jobs in a loop, marks some finished, and prints what is durable, line by line.
WRITER = """
import asyncio, sys
from pathlib import Path
from server.job import Job
from server.jobs import Jobs

async def main(path, start):
    jobs = await Jobs.open(path)
    async def one(lane):
        for index in range(100_000):
            id = f"{start}-{lane}-{index}"
            await jobs.add(Job(id, "video", ({"prompt": id * 50},), index))
            print("added", id, flush=True)
            await jobs.change(id, status="in_progress", attempts=1)
            for progress in (10, 60):
                await jobs.change(id, only_from={"in_progress"}, progress=progress)
            if index % 2:
                await jobs.change(id, status="completed", progress=100)
                print("completed", id, flush=True)
    await asyncio.gather(*(one(lane) for lane in range(4)))

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


def writer(path: Path, start: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), start],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_kill_9_loses_nothing_that_was_told(path: Path) -> None:
    told: list[str] = []
    for start in range(6):
        process = writer(path, str(start))
        assert process.stdout is not None
        told.append(process.stdout.readline().strip())  # open, and at work
        time.sleep(random.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        # The last line may have been cut by the signal.
        told += rest[: rest.rfind("\n") + 1].split("\n")[:-1]
    assert len(told) > 50

    async def test(jobs: Jobs) -> None:
        for line in told:
            word, id = line.split()
            job = await jobs.get(id)
            assert job is not None, f"{id} was {word}, and is lost"
            assert job.runs == ({"prompt": id * 50},)
            assert word == "added" or (job.status, job.progress) == ("completed", 100)
        await jobs.recover(attempts=3)
        counts = await jobs.counts()
        assert counts["in_progress"] == counts["failed"] == 0

    using(path, test)


def test_a_second_server_is_refused_until_the_first_is_dead(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        await jobs.add(video("a"))

    first = writer(path, "0")
    assert first.stdout is not None
    first.stdout.readline()
    try:
        with pytest.raises(UserError) as refused:
            using(path, test)
    finally:
        first.kill()
        first.communicate()
    assert str(refused.value) == (
        f"another server (process {first.pid}) keeps its jobs in {path.parent}.\n"
        "    help: stop it, or give this one a folder of its own: --output-path DIR"
    )
    using(path, test)


def test_two_in_one_process(path: Path) -> None:
    async def test(_: Jobs) -> None:
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            await Jobs.open(path)
        await (await Jobs.open(path.parent / "other" / path.name)).close()

    using(path, test)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)


def damage(path: Path) -> None:
    """Overwrite a page in the middle of a database with many."""

    async def test(jobs: Jobs) -> None:
        for index in range(50):
            await jobs.add(replace(video(f"v{index}"), meta={"x": "y" * 2000}))

    using(path, test)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 8] = b"\xa5" * 4096 * 5
    path.write_bytes(content)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE jobs (other TEXT)")
    connection.close()


def newer(path: Path) -> None:
    using(path, lambda jobs: jobs.add(video("a")))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "message", "help"),
    [
        (garbage, "is not a readable database of jobs: file is not a database", "move it away"),
        (damage, "is not a readable database of jobs", "move it away"),
        (foreign, "it holds something else than jobs", "move it away"),
        (newer, "format is 2, this version knows up to 1", "start the newer version"),
        (folder, "jobs cannot be kept in", "make the folder writable"),
    ],
)
def test_a_database_that_cannot_be_used(
    path: Path, make: Callable[[Path], None], message: str, help: str
) -> None:
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    for _ in range(2):  # the lock was let go
        with pytest.raises(UserError) as refused:
            using(path, lambda jobs: jobs.add(video("b")))
        assert message in refused.value.message
        assert str(path.parent) in refused.value.message
        assert refused.value.help.startswith(help)
        assert "--output-path" in refused.value.help
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"jobs cannot be kept in .*file"):
        using(tmp_path / "file" / "jobs.sqlite3", lambda jobs: jobs.add(video("a")))


def test_a_first_start_that_was_killed(path: Path) -> None:
    path.parent.mkdir()
    path.touch()  # made by SQLite, and nothing written yet
    using(path, lambda jobs: jobs.add(video("a")))
