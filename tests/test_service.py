"""The service with real engine processes and the demo model: jobs, cancelling, dying, recovery."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runtime import Runtime
from runtime.config import edit
from server.job import Job, Kind
from server.jobs import Jobs
from server.service import Draining, Folders, QueueFull, Service

ROOT = Path(__file__).parent.parent
SMALL = {"prompt": "a red circle on a blue background", "height": 64, "width": 64}
LONG = 1000  # steps: a few seconds at the least


@pytest.fixture(autouse=True, scope="module")
def _one_thread(_own_cache: None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


async def make(folder: Path, **overrides: Any) -> Service:
    """A service that is not started. overrides: `server__max_queue=2`."""
    settings = [edit(name.replace("__", "."), value) for name, value in overrides.items()]
    folders = Folders(folder / "outputs", folder / "inputs")
    for path in (folders.outputs, folders.inputs):
        path.mkdir(exist_ok=True, parents=True)
    jobs = await Jobs.open(folders.outputs / "jobs.sqlite3")
    return Service(settings, Runtime.load(settings), jobs, folders)


@asynccontextmanager
async def serving(folder: Path, **overrides: Any) -> AsyncIterator[Service]:
    """A service whose first engine is ready."""
    service = await make(folder, **overrides)
    await service.start()
    try:
        await until(lambda: service.not_ready() is None)
        yield service
    finally:
        await service.stop(0)


async def until(true: Callable[[], object], seconds: float = 50) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


def new(kind: Kind = "image", steps: int = 2, n: int = 1, **fields: Any) -> Job:
    encoding = fields.pop("encoding", {})
    inputs = fields.pop("inputs", ())
    request = {**SMALL, "num_inference_steps": steps, **fields}
    prefix = {"image": "img", "video": "video"}[kind]
    return Job(
        f"{prefix}_{secrets.token_hex(16)}", kind,
        tuple({**request, "seed": seed} for seed in range(n)), int(time.time()),
        encoding=encoding, inputs=inputs,
    )  # fmt: skip


def engine(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.stats()["engines"][0]
    return found


async def step_of(service: Service, id: str) -> None:
    """Wait until a job is in the middle of its steps."""
    async with asyncio.timeout(50):
        while not (job := await service.get(id)) or not job.progress:
            assert job is None or not job.is_over, job
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def service(
    loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory, _one_thread: None
) -> Iterator[Service]:
    """One service for the tests that leave it as it was."""
    open_service = serving(tmp_path_factory.mktemp("service"))
    yield loop.run(open_service.__aenter__())
    loop.run(open_service.__aexit__(None, None, None))


def outputs(service: Service) -> set[str]:
    return {p.name for p in service.folders.outputs.iterdir() if "sqlite3" not in p.name}


def test_a_picture_and_a_clip(loop: asyncio.Runner, service: Service) -> None:
    async def go() -> None:
        picture = new(n=2, encoding={"suffix": ".webp", "compression": 50})
        clip = new("video", num_frames=5)
        assert (await service.submit(picture)).status == "queued"
        await service.submit(clip)
        done = await service.wait(picture.id)
        assert (done.status, done.progress, done.attempts) == ("completed", 100, 1)
        assert done.error is None
        assert None not in {done.seconds, done.peak_memory_mb, done.started_at, done.completed_at}
        assert [f.name for f in done.files] == [f"{picture.id}_{n}.webp" for n in (0, 1)]
        for file in done.files:
            with Image.open(service.folders.outputs / file.name) as image:
                assert (image.size, file.media_type) == ((64, 64), "image/webp")
        filmed = await service.wait(clip.id)
        assert filmed.files[0].name == f"{clip.id}_0.mp4"
        assert filmed.files[0].media_type == "video/mp4"
        path = service.folders.outputs / filmed.files[0].name
        assert path.stat().st_size == filmed.files[0].size
        found, more = await service.page("video", limit=1)
        assert (found[0].id, more) == (clip.id, False)
        with pytest.raises(KeyError):
            await service.wait("img_unknown")

    loop.run(go())
    assert service.not_ready() is None


def test_jobs_run_in_order_and_tell_their_progress(loop: asyncio.Runner, service: Service) -> None:
    async def go() -> None:
        first, second, third = new(steps=60), new(), new("video")
        for job in (first, second, third):
            await service.submit(job)
        assert service.stats()["queued"] + service.stats()["running"] == 3
        seen = set()
        async with asyncio.timeout(30):
            while (running := await service.get(first.id)) and not running.is_over:
                seen.add(running.progress)
                await asyncio.sleep(0.01)
        assert len(seen) > 5
        assert max(seen) <= 99
        ended = [await service.wait(job.id) for job in (first, second, third)]
        assert [job.status for job in ended] == ["completed"] * 3
        assert ended[0].completed_at <= ended[1].started_at + 1 <= ended[2].started_at + 1  # type: ignore[operator]  # they are set

    loop.run(go())


def test_cancel_where_it_waits_and_where_it_runs(loop: asyncio.Runner, service: Service) -> None:
    async def go() -> None:
        running, waiting, after = new("video", LONG, n=3), new("video"), new()
        for job in (running, waiting, after):
            await service.submit(job)
        cancelled = await service.cancel(waiting.id)
        assert cancelled is not None
        assert (cancelled.status, cancelled.attempts) == ("cancelled", 0)
        await step_of(service, running.id)
        await service.cancel(running.id)
        assert (await service.wait(running.id)).status == "cancelled"
        assert (await service.wait(after.id)).status == "completed"
        assert not [name for name in outputs(service) if running.id in name]
        assert (await service.cancel(after.id)).status == "completed"  # type: ignore[union-attr]
        assert await service.cancel("img_unknown") is None

    loop.run(go())


def test_who_goes_away_cancels_the_job(loop: asyncio.Runner, service: Service) -> None:
    async def go() -> None:
        job = new(steps=LONG)
        await service.submit(job)
        waiting = asyncio.ensure_future(service.wait(job.id))
        await step_of(service, job.id)
        waiting.cancel()
        assert (await service.wait(job.id)).status == "cancelled"

    loop.run(go())


def test_delete_stops_the_job_and_removes_its_files(loop: asyncio.Runner, service: Service) -> None:
    async def go() -> None:
        done, running, waiting = new("video", n=2, inputs=("a.png",)), new("video", LONG), new()
        (service.folders.inputs / "a.png").write_bytes(b"x")
        for job in (done, running, waiting):
            await service.submit(job)
        await service.wait(done.id)
        await step_of(service, running.id)
        for job in (waiting, running, done):
            assert await service.delete(job.id)
            assert await service.get(job.id) is None
            assert not [name for name in outputs(service) if job.id in name]
        assert not list(service.folders.inputs.iterdir())
        assert not await service.delete(done.id)

    loop.run(go())


def test_a_failed_run_fails_the_job_only(loop: asyncio.Runner, service: Service) -> None:
    async def go() -> None:
        pid = engine(service)["pid"]
        wrong, fine = new(encoding={"suffix": ".tiff"}), new()
        await service.submit(wrong)
        await service.submit(fine)
        failed = await service.wait(wrong.id)
        assert failed.error is not None
        assert (failed.status, failed.error.code) == ("failed", "invalid_request")
        assert ".tiff" in failed.error.message
        assert (await service.wait(fine.id)).status == "completed"
        assert engine(service)["pid"] == pid

    loop.run(go())


def test_idle_means_no_cpu(loop: asyncio.Runner, service: Service) -> None:
    def used() -> float:
        stat = Path(f"/proc/{engine(service)['pid']}/stat").read_text("ascii")
        user, system = stat.rpartition(")")[2].split()[11:13]
        ours = os.times()
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") + ours.user + ours.system

    async def go() -> None:
        await asyncio.sleep(0.5)
        before = used()
        await asyncio.sleep(1)
        assert used() - before < 0.1

    loop.run(go())


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
from test_service import engine, make, new, step_of, until

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
    import json

    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
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


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


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
