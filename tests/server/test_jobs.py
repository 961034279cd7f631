"""The store of jobs: states, pages, restarts, many coroutines."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest

from server.job import TERMINAL, Job, JobError, JobKind, Status, StoredFile
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


def video(id: str, created_at: int = 100, kind: JobKind = "video", **fields: Any) -> Job:
    return Job(id, kind, runs=({"prompt": "a red circle"},), created_at=created_at, **fields)


FULL = Job(
    id="video_1",
    kind="video",
    runs=({"prompt": "ein Kreis 円 🟥", "seed": 2**53, "scale": 1.5}, {"prompt": "\ud800\x00"}),
    created_at=1,
    encoding={"suffix": ".mp4", "quality": None},
    inputs=("video_1_in.png",),
    meta={"model": "demo", "nested": {"a": [1, {"b": True}]}},
    status="completed",
    progress=100,
    attempts=2,
    started_at=2,
    completed_at=3,
    files=(StoredFile("video_1_0.mp4", "video/mp4", 9, url="http://x/é"), StoredFile("b", "c", 0)),
    error=JobError("engine_died", 'why "?"'),
    seconds=0.25,
    peak_memory_mb=12.5,
)


def test_a_job_comes_back_as_it_was(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        await jobs.add(FULL)
        await jobs.add(replace(video("b"), meta=MappingProxyType({"size": "64x64"})))
        assert await jobs.get("video_1") == FULL
        assert await jobs.get("b") == replace(video("b"), meta={"size": "64x64"})
        assert await jobs.get("c") is None

    using(path, test)

    async def reopened(jobs: Jobs) -> None:
        assert await jobs.get("video_1") == FULL

    using(path, reopened)


def test_large_requests(path: Path) -> None:
    draw = random.Random(0)
    prompt = "".join(chr(draw.randrange(32, 0x3000)) for _ in range(500_000))
    job = replace(video("a"), runs=({"prompt": prompt},) * 4)

    async def test(jobs: Jobs) -> None:
        await jobs.add(job)
        assert await jobs.get("a") == job

    using(path, test)


def test_what_is_not_json_is_refused_whole(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        with pytest.raises(TypeError, match="not JSON"):
            await jobs.add(replace(video("a"), meta={"x": Path("y")}))
        assert await jobs.get("a") is None
        await jobs.add(video("a"))
        with pytest.raises(sqlite3.IntegrityError):
            await jobs.add(video("a", created_at=5))
        assert await jobs.get("a") == video("a")
        await jobs.add(video("b"))  # the failed transactions are over

    using(path, test)


def test_change(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        await jobs.add(video("a"))
        running = await jobs.change("a", status="in_progress", attempts=1, started_at=7)
        assert running == video("a", status="in_progress", attempts=1, started_at=7)
        assert await jobs.change("a", only_from={"queued"}, progress=5) is None
        assert await jobs.change("a", only_from={"queued", "in_progress"}, progress=50)
        files = (StoredFile("a_0.mp4", "video/mp4", 3),)
        done = await jobs.change("a", status="completed", progress=100, files=files)
        assert done == await jobs.get("a")
        assert done is not None
        assert (done.files, done.progress, done.attempts) == (files, 100, 1)
        assert await jobs.change("nobody", progress=1) is None

    using(path, test)


@pytest.mark.parametrize("last", sorted(TERMINAL))
def test_a_job_ends_once(path: Path, last: Status) -> None:
    async def test(jobs: Jobs) -> None:
        await jobs.add(video("a", status="in_progress"))
        ended = await jobs.change("a", status=last, seconds=1.0)
        assert ended is not None
        statuses: tuple[Status, ...] = ("queued", "in_progress", *sorted(TERMINAL))
        for status in statuses:
            assert await jobs.change("a", status=status, seconds=2.0) is None
            assert await jobs.change("a", only_from=[last], status=status) is None
        assert await jobs.get("a") == ended
        # What is not its status may still be told: an upload that succeeds later.
        stored = StoredFile("a_0.mp4", "video/mp4", 1, url="https://store/a_0.mp4")
        assert await jobs.change("a", files=[stored]) == replace(ended, files=(stored,))

    using(path, test)


def test_only_one_of_many_ends_a_job(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        await jobs.add(video("a", status="in_progress"))
        ends: list[Status] = ["completed", "failed", "cancelled"]
        changed = await asyncio.gather(
            *(jobs.change("a", status=random.choice(ends), attempts=i) for i in range(60))
        )
        won = [job for job in changed if job]
        assert len(won) == 1
        assert await jobs.get("a") == won[0]

    using(path, test)


@pytest.mark.parametrize("fields", [{"kind": "image"}, {"created_at": 1}, {"progres": 3}, {}])
def test_what_no_change_may_set(path: Path, fields: dict[str, Any]) -> None:
    async def test(jobs: Jobs) -> None:
        await jobs.add(video("a"))
        with pytest.raises(TypeError, match="cannot change"):
            await jobs.change("a", **fields)
        with pytest.raises(ValueError, match="'done' is none of"):
            await jobs.change("a", status="done")
        assert await jobs.get("a") == video("a")

    using(path, test)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pages(path: Path, order: Literal["asc", "desc"], size: int) -> None:
    async def test(jobs: Jobs) -> None:
        times = [5, 5, 5, 1, 9, 5, 5, 3, 5]  # equal times: the order of insertion decides
        for index, created_at in enumerate(times):
            await jobs.add(video(f"v{index}", created_at))
            await jobs.add(video(f"i{index}", created_at, kind="image"))
        want = [f"v{i}" for i in sorted(range(len(times)), key=lambda i: (times[i], i))]
        seen: list[str] = []
        more = True
        while more:
            after = seen[-1] if seen else None
            page, more = await jobs.page("video", after=after, limit=size, order=order)
            assert len(page) == size or not more
            seen += [job.id for job in page]
        assert seen == (want if order == "asc" else want[::-1])
        with pytest.raises(KeyError, match="nobody"):
            await jobs.page("video", after="nobody")
        with pytest.raises(KeyError, match="i3"):  # of another kind
            await jobs.page("video", after="i3")
        assert await jobs.page("video", after=seen[-1], order=order) == ([], False)

    using(path, test)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_while_jobs_come_and_go(path: Path, order: Literal["asc", "desc"]) -> None:
    async def test(jobs: Jobs) -> None:
        for index in range(12):
            await jobs.add(video(f"v{index}"))
        first, more = await jobs.page("video", limit=4, order=order)
        assert more
        for id in (first[0].id, first[2].id, "v6"):
            assert await jobs.remove(id) is not None
        await jobs.add(video("new"))
        rest, more = await jobs.page("video", after=first[-1].id, limit=50, order=order)
        assert not more
        if order == "asc":
            assert [job.id for job in rest] == ["v4", "v5", *(f"v{i}" for i in range(7, 12)), "new"]
        else:
            assert [job.id for job in rest] == ["v7", *(f"v{i}" for i in range(5, -1, -1))]

    using(path, test)


def test_queued_and_counts(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        assert await jobs.queued() == []
        await jobs.add(video("a", 9))
        await jobs.add(video("b", 3, kind="image"))
        await jobs.add(video("c", 9))
        await jobs.add(video("d", 1, status="failed"))
        assert [job.id for job in await jobs.queued()] == ["b", "a", "c"]
        assert await jobs.counts() == {
            "queued": 3, "in_progress": 0, "completed": 0, "failed": 1, "cancelled": 0
        }  # fmt: skip
        assert (await jobs.remove("b")) == video("b", 3, kind="image")
        assert await jobs.remove("b") is None
        assert [job.id for job in await jobs.queued()] == ["a", "c"]

    using(path, test)


def test_recover(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        running: Status = "in_progress"
        await jobs.add(video("waits", 1))
        await jobs.add(video("ran", 2, status=running, attempts=2, progress=40, started_at=3))
        await jobs.add(video("often", 3, status=running, attempts=3, started_at=4))
        await jobs.add(video("done", 4, status="completed", attempts=3))
        await jobs.add(video("picture", 5, kind="image"))
        await jobs.add(video("drawn", 6, kind="image", status=running, attempts=1))
        await jobs.add(video("kept", 7, kind="image", status="completed"))
        before = int(time.time())
        changed = {job.id: job for job in await jobs.recover(attempts=3)}
        assert list(changed) == ["ran", "often", "picture", "drawn"]
        assert changed["ran"] == video("ran", 2, attempts=2)
        assert changed["often"].status == "failed"
        assert changed["often"].error == JobError(
            "engine_died", "it was started 3 times, and the engine or the server died each time"
        )
        for id in ("often", "picture", "drawn"):
            assert before <= (changed[id].completed_at or 0) <= time.time()
        assert {changed[id].status for id in ("picture", "drawn")} == {"cancelled"}
        assert changed == {id: await jobs.get(id) for id in changed}
        assert [job.id for job in await jobs.queued()] == ["waits", "ran"]
        assert await jobs.recover(attempts=3) == []

    using(path, test)


def test_expired(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        hour, now = 3600, 1_000_000
        for id, ended in (("a", 9), ("b", 5), ("c", 5), ("d", 1), ("e", 3)):
            await jobs.add(video(id, status="completed", completed_at=now - ended * hour))
        await jobs.add(video("old", 5, status="cancelled"))  # never told when it ended
        await jobs.add(video("waits", 5))
        await jobs.add(video("runs", 5, status="in_progress"))

        async def ids(keep: int, hours: float) -> list[str]:
            return [job.id for job in await jobs.expired(keep, hours, now)]

        assert await ids(100, 1e9) == []
        assert await ids(100, 24) == ["old"]
        assert await ids(100, 5) == ["old", "a"]  # five hours are not over five hours
        assert await ids(100, 4.5) == ["old", "a", "b", "c"]
        assert await ids(3, 1e9) == ["old", "a", "b"]
        assert await ids(1, 4.5) == ["old", "a", "b", "c", "e"]
        assert await ids(2, 0) == ["old", "a", "b", "c", "e", "d"]

    using(path, test)


def test_many_coroutines_and_a_free_loop(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        async def one(index: int) -> None:
            job = video(f"v{index}", index % 5)
            await jobs.add(job)
            assert await jobs.get(job.id) == job
            for progress in range(5):
                assert await jobs.change(job.id, only_from={"queued"}, progress=progress)
            assert await jobs.change(job.id, status="completed")
            if index % 3 == 0:
                assert await jobs.remove(job.id)

        async def ticks(gaps: list[float]) -> None:
            while True:
                last = time.perf_counter()
                await asyncio.sleep(0.001)
                gaps.append(time.perf_counter() - last)

        gaps: list[float] = []
        watch = asyncio.create_task(ticks(gaps))
        await asyncio.gather(*(one(index) for index in range(90)))
        watch.cancel()
        assert len(gaps) > 10  # the loop ran on while the disk was waited for
        assert (await jobs.counts())["completed"] == 60

    using(path, test)


def test_a_cancelled_waiter_undoes_nothing(path: Path) -> None:
    async def test(jobs: Jobs) -> None:
        tasks = [asyncio.create_task(jobs.add(video(f"v{i}"))) for i in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        assert (await jobs.counts())["queued"] == 20

    using(path, test)
