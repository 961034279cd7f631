"""The service with a real engine process: jobs in order, progress, cancelling, removal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from server.service import Service
from tests.support.services import LONG, engine, new, outputs, serving, step_of


@pytest.fixture(autouse=True, scope="module")
def _one_thread(_own_cache: None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


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
