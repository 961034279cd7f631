"""A service with real engine processes and the demo model, for tests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runtime import Runtime
from runtime.configure.resolve import edit
from server.job import Job, JobKind
from server.jobs import Jobs
from server.service import Folders, Service

SMALL = {"prompt": "a red circle on a blue background", "height": 64, "width": 64}
LONG = 1000  # steps: a few seconds at the least


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


def new(kind: JobKind = "image", steps: int = 2, n: int = 1, **fields: Any) -> Job:
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


def outputs(service: Service) -> set[str]:
    return {p.name for p in service.folders.outputs.iterdir() if "sqlite3" not in p.name}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
