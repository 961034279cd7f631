"""Engines and servers that die, refuse, fail and stop; real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.job import Job
from server.jobs import Jobs
from server.service import Draining, QueueFull
from tests.support.services import (
    LONG,
    engine,
    is_alive,
    make,
    new,
    outputs,
    serving,
    step_of,
    until,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _one_thread(_own_cache: None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


def test_a_failing_node_names_its_failure_in_the_log(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = str(data / "graphs/toy_failing_file.yaml")

    async def go() -> None:
        async with serving(tmp_path, graph=graph) as service:
            pid = engine(service)["pid"]
            for _ in range(2):
                job = Job(new().id, "image", ({"n": 3},), int(time.time()))
                await service.submit(job)
                failed = await service.wait(job.id)
                assert failed.error is not None
                assert (failed.error.code, failed.attempts) == ("generation_failed", 1)
                assert "a toy mistake" in failed.error.message
                assert str(data) not in failed.error.message
                assert failed.error.message.split("failure ")[1][:8] in capfd.readouterr().err
            assert engine(service)["pid"] == pid

    asyncio.run(go())


def test_a_killed_engine_is_replaced_and_its_job_tried_again(tmp_path: Path) -> None:
    async def go() -> None:
        async with serving(tmp_path, server__job_attempts=2) as service:
            job, after = new("video", 150), new("video")
            await service.submit(job)
            await service.submit(after)
            await step_of(service, job.id)
            os.kill(engine(service)["pid"], signal.SIGKILL)
            await until(lambda: engine(service)["state"] == "restarting")
            assert "SIGKILL" in (service.not_ready() or "")
            again = await service.get(job.id)
            assert again is not None
            assert (again.status, again.progress) == ("queued", 0)
            done = await service.wait(job.id)
            assert (done.status, done.attempts) == ("completed", 2)
            assert (await service.wait(after.id)).status == "completed"
            assert engine(service)["restarts"] == 1
            assert outputs(service) == {f"{job.id}_0.png", f"{after.id}_0.png"}

    asyncio.run(go())


def test_a_job_whose_engines_die_fails_with_the_reason(tmp_path: Path) -> None:
    async def go() -> None:
        async with serving(tmp_path, server__job_attempts=2) as service:
            deadly, after = new(steps=LONG), new("video")
            await service.submit(deadly)
            await service.submit(after)
            for _ in range(2):
                await step_of(service, deadly.id)
                os.kill(engine(service)["pid"], signal.SIGKILL)
                await until(lambda: engine(service)["state"] == "restarting")
            failed = await service.wait(deadly.id)
            assert failed.error is not None
            assert (failed.status, failed.attempts) == ("failed", 2)
            assert failed.error.code == "engine_died"
            assert "SIGKILL" in failed.error.message
            assert "out of memory" in failed.error.message
            done = await service.wait(after.id)
            assert (done.status, done.attempts) == ("completed", 1)

    asyncio.run(go())


SERVER = """
import asyncio, json, sys
from pathlib import Path
from tests.support.services import engine, make, new, step_of, until

async def main(folder):
    service = await make(folder)
    await service.start()
    await until(lambda: service.not_ready() is None)
    jobs = [new("video", 200), new("video"), new()]
    for job in jobs:
        await service.submit(job)
    await step_of(service, jobs[0].id)
    print(json.dumps([engine(service)["pid"], *(job.id for job in jobs)]), flush=True)
    await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_kill_9_of_the_server_leaves_no_engine_and_loses_no_job(tmp_path: Path) -> None:
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests/plugins")])
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
    ) as server:  # fmt: skip
        assert server.stdout
        pid, *ids = json.loads(server.stdout.readline())
        server.kill()
    end = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < end, "the engine outlives its server"
        time.sleep(0.02)
    orphans = [f"video_{'0' * 32}_0.mp4", f".{pid:x}-01234567.png"]
    for name in [*orphans, "holiday.png"]:
        (tmp_path / "outputs" / name).touch()

    async def go() -> None:
        async with serving(tmp_path) as service:
            again, waited, image = [await service.wait(id) for id in ids]
            assert (again.status, again.attempts) == ("completed", 2)
            assert (waited.status, waited.attempts) == ("completed", 1)
            assert image.status == "cancelled"
            assert outputs(service) == {f"{id}_0.png" for id in ids[:2]} | {"holiday.png"}

    asyncio.run(go())


def test_a_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    async def go() -> None:
        async with serving(tmp_path, server__request_timeout=1, server__keep_jobs=1) as service:
            pid = engine(service)["pid"]
            slow, fine = new("video", LONG, n=3), new()
            await service.submit(slow)
            await service.submit(fine)
            failed = await service.wait(slow.id)
            assert failed.error is not None
            assert (failed.status, failed.error.code) == ("failed", "timeout")
            assert "1 s" in failed.error.message
            assert (await service.wait(fine.id)).status == "completed"
            assert engine(service)["pid"] == pid
            async with asyncio.timeout(5):  # one job is kept: the older one goes
                while await service.get(slow.id):
                    await asyncio.sleep(0.02)
            assert outputs(service) == {f"{fine.id}_0.png"}

    asyncio.run(go())


def test_an_engine_that_does_not_obey_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.service.CANCEL_TIMEOUT_SECONDS", 0.5)

    async def go() -> None:
        async with serving(tmp_path) as service:
            stuck = new("video", LONG)
            await service.submit(stuck)
            await step_of(service, stuck.id)
            pid = engine(service)["pid"]
            os.kill(pid, signal.SIGSTOP)
            await service.cancel(stuck.id)
            assert (await service.wait(stuck.id)).status == "cancelled"
            await until(lambda: service.not_ready() is None)
            assert engine(service)["pid"] != pid

    asyncio.run(go())


def test_replicas_do_not_disturb_each_other(tmp_path: Path) -> None:
    async def go() -> None:
        async with serving(tmp_path, parallel__dp_size=2) as service:
            await until(lambda: all(e["state"] == "idle" for e in service.stats()["engines"]))
            killed, other = new("video", 100), new("video", 100)
            await service.submit(killed)
            await service.submit(other)
            for job in (killed, other):
                await step_of(service, job.id)
            assert service.stats()["running"] == 2
            os.kill(engine(service)["pid"], signal.SIGKILL)
            done = [await service.wait(job.id) for job in (killed, other)]
            assert [(job.status, job.attempts) for job in done] == [
                ("completed", 2), ("completed", 1)
            ]  # fmt: skip

    asyncio.run(go())


def test_drain_lets_a_job_finish_and_keeps_what_it_cannot(tmp_path: Path) -> None:
    async def go() -> None:
        service = await make(tmp_path)
        await service.start()
        running, waiting, image = new("video", 100), new("video", LONG), new()
        for job in (running, waiting, image):
            await service.submit(job)
        await step_of(service, running.id)
        stopping = asyncio.ensure_future(service.stop(30))
        assert (await service.wait(image.id)).status == "cancelled"
        with pytest.raises(Draining):
            await service.submit(new())
        assert service.not_ready() == "the server is stopping"
        assert (await service.wait(running.id)).status == "completed"
        await stopping
        assert engine(service)["pid"] is None

        service = await make(tmp_path)
        await service.start()
        await step_of(service, waiting.id)
        await service.stop(0)
        jobs = await Jobs.open(service.folders.outputs / "jobs.sqlite3")
        kept = await jobs.get(waiting.id)
        assert kept is not None
        assert (kept.status, kept.attempts) == ("queued", 0)
        await jobs.close()

    asyncio.run(go())


def test_an_engine_that_cannot_start_says_why_and_jobs_wait(tmp_path: Path) -> None:
    async def go() -> None:
        service = await make(tmp_path, placement__device="cuda:7", server__max_queue=2)
        await service.start()
        await service.submit(new("video"))
        image = new()
        await service.submit(image)
        with pytest.raises(QueueFull) as full:
            await service.submit(new())
        assert 1 <= full.value.retry_after <= 60
        await until(lambda: engine(service)["state"] == "refused")
        assert "there is no device `cuda:7`" in (service.not_ready() or "")
        assert service.stats()["queued"] == 2
        await service.cancel(image.id)
        assert service.stats()["queued"] == 1
        await service.stop(5)

    asyncio.run(go())
