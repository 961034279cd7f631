"""The service behind the HTTP layer: accepts jobs, gives them to engines, stores their results.

Everything happens on one event loop. Between two awaits its state is consistent: a job that is
accepted and not over is either in `_queue` or in `_running`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar

from runtime import Runtime, Setting
from server.job import Job, JobKind, Status
from server.job_files import Folders, remove_half_written, remove_outputs
from server.jobs import Jobs
from server.object_files import ObjectFiles
from server.protocol import pack_settings
from server.queue_errors import Draining, QueueFull
from server.replica import EngineDied, Replica
from server.retention import Retention
from server.running_job import RunningJob
from server.storage_errors import is_disk_full
from server.upload_retries import UploadRetries

CANCEL_TIMEOUT_SECONDS = 120.0  # a step may be long: an engine that does not stop by then is killed
DISK_FULL_SECONDS = 2.0  # between two attempts to write to a full disk
FIRST_ESTIMATE_SECONDS = 5.0  # of a job, until one has ended

__all__ = ["Draining", "Folders", "QueueFull", "Service"]

log = logging.getLogger("sglang.server")
T = TypeVar("T")
ChangeJob = Callable[..., Awaitable[Job | None]]


class Service:
    """Jobs and the engines that run them."""

    def __init__(
        self, settings: Sequence[Setting], runtime: Runtime, jobs: Jobs, folders: Folders
    ) -> None:
        policies = runtime.config.policies
        self._policy, self._jobs, self.folders = policies.server, jobs, folders
        self._queue: OrderedDict[str, Job] = OrderedDict()
        self._running: dict[str, RunningJob] = {}
        self._waiters: dict[str, asyncio.Future[Job]] = {}  # who waits for which job
        self._tasks: set[asyncio.Task[Any]] = set()
        self._arriving = 0
        self._ended: dict[str, int] = {"completed": 0, "failed": 0, "cancelled": 0}
        self._average_seconds = FIRST_ESTIMATE_SECONDS
        self._draining = self._stopping = False
        self._draining_since = 0.0
        self._watch: asyncio.Task[None] | None = None
        self.objects = ObjectFiles(policies.storage, folders)
        self._uploads = UploadRetries(jobs, folders, self._send_to_engine)
        self._retention = Retention(jobs, folders, self._uploads, self.objects, self._policy)
        load = {"load": pack_settings(settings), "outputs": str(folders.outputs.resolve())}
        self._replicas = [
            Replica(index, {**load, "replica": index}, self._dispatch, self._uploads.handle_reply)
            for index in range(policies.parallel.dp_size)
        ]

    async def start(self) -> None:
        """Recover the jobs of an earlier process, then start the engines."""
        for job in await self._jobs.recover(self._policy.job_attempts):
            log.info("job %s of an earlier process is %s", job.id, job.status)
        for job in await self._retention.sweep():
            self._uploads.add(job)
        self._queue.update((job.id, job) for job in await self._jobs.queued())
        for replica in self._replicas:
            replica.start()
        self._watch = asyncio.get_running_loop().create_task(self._retention.watch())

    async def begin_drain(self) -> None:
        """Accept no more jobs, and cancel queued images, whose clients wait in vain."""
        if not self._draining:
            self._draining = True
            self._draining_since = asyncio.get_running_loop().time()
            await self._cancel_images()

    async def stop(self, drain_seconds: float) -> None:
        """Accept no more jobs, let running ones finish for a while, then stop; queued jobs stay.

        Closes the jobs: the service cannot be started again.
        """
        await self.begin_drain()
        drain_seconds -= asyncio.get_running_loop().time() - self._draining_since
        if attempts := [live.task for live in self._running.values() if live.task]:
            await asyncio.wait(attempts, timeout=max(drain_seconds, 0))
        self._stopping = True
        await asyncio.gather(*(replica.stop() for replica in self._replicas))
        await self._cancel_images()
        if self._watch:
            self._watch.cancel()
        await self._uploads.stop()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._jobs.close()

    async def submit(self, job: Job) -> Job:
        """Accept a job: it is on the disk on return. Raises QueueFull or Draining."""
        if self._draining:
            raise Draining("the server is stopping")
        if len(self._queue) + self._arriving >= self._policy.max_queue:
            usual = math.ceil(self._average_seconds / len(self._replicas))
            raise QueueFull(max(1, min(usual, 60)))
        accepting = self._spawn(self._accept(job))
        try:
            return await asyncio.shield(accepting)
        except asyncio.CancelledError:
            # The client left before it knew the job: of an image nobody can ask any more.
            if job.kind == "image":
                accepting.add_done_callback(lambda _: self._spawn(self.cancel(job.id)))
            raise

    async def wait(self, id: str) -> Job:
        """Wait for the end of a job; KeyError where there is none. A cancelled wait cancels it."""
        try:
            return await self._end_of(id)
        except asyncio.CancelledError:
            self._spawn(self.cancel(id))
            raise

    async def get(self, id: str) -> Job | None:
        """The job, if there is one, with its live progress."""
        job = await self._jobs.get(id)
        return self._live(job) if job else None

    async def page(
        self,
        kind: JobKind,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> tuple[list[Job], bool]:
        """Jobs by time, and whether more follow; KeyError where `after` is unknown."""
        jobs, more = await self._jobs.page(kind, after=after, limit=limit, order=order)
        return [self._live(job) for job in jobs], more

    async def cancel(self, id: str) -> Job | None:
        """Cancel a job, at once or after its current step; returns the job."""
        if job := self._queue.pop(id, None):
            fields = {"status": "cancelled", "completed_at": int(time.time())}
            try:
                await self._shielded(self._end(id, fields, {"queued"}, self._jobs.change))
            except sqlite3.Error:
                self._return_to_queue(job)
                raise
        elif live := self._running.get(id):
            live.stop("cancelled", CANCEL_TIMEOUT_SECONDS)
        return await self.get(id)

    async def delete(self, id: str) -> bool:
        """Stop a job and remove it with its files; false where there is none."""
        return await self._shielded(self._delete(id))

    @property
    def is_draining(self) -> bool:
        """Whether the server is stopping."""
        return self._draining

    def not_ready(self) -> str | None:
        """Why no job can run now; None where an engine is ready."""
        if self._draining:
            return "the server is stopping"
        if any(replica.is_ready for replica in self._replicas):
            return None
        reasons = dict.fromkeys(replica.reason or replica.state for replica in self._replicas)
        return "; ".join(reasons)

    def stats(self) -> dict[str, Any]:
        """Counters of queued, running and ended jobs, and the state of each engine."""
        return {
            "queued": len(self._queue),
            "running": len(self._running),
            **self._ended,
            "max_queue": self._policy.max_queue,
            "draining": self._draining,
            "engines": [
                {
                    "index": r.index, "pid": r.pid, "state": r.state, "restarts": r.restarts,
                    "reason": r.reason or None, **r.ready,
                }
                for r in self._replicas
            ],
        }  # fmt: skip

    async def _cancel_images(self) -> None:
        """Cancel queued images: their clients get no response after the stop."""
        for job in [job for job in self._queue.values() if job.kind == "image"]:
            await self.cancel(job.id)

    async def _accept(self, job: Job) -> Job:
        self._arriving += 1
        try:
            await self._jobs.add(job)
            self._queue[job.id] = job
        finally:
            self._arriving -= 1
        self._dispatch()
        return job

    async def _end_of(self, id: str) -> Job:
        over = self._waiters.setdefault(id, asyncio.get_running_loop().create_future())
        job = await self._jobs.get(id)
        if job is None or job.is_over:
            self._waiters.pop(id, None)
            if job is None:
                raise KeyError(id)
            if not over.done():
                over.set_result(job)
        return await asyncio.shield(over)

    async def _delete(self, id: str) -> bool:
        job = await self.cancel(id)
        if job is None:
            return False
        with suppress(KeyError):  # someone else may have deleted it meanwhile
            return await self._retention.remove(await self._end_of(id))
        return False

    def _live(self, job: Job) -> Job:
        live = self._running.get(job.id)
        if live is None or job.is_over:
            return job
        return dataclasses.replace(job, progress=max(job.progress, live.progress))

    def _dispatch(self) -> None:
        """Give the oldest jobs to idle engines."""
        for replica in self._replicas:
            if self._draining or not self._queue:
                return
            if replica.state == "idle":
                id, job = self._queue.popitem(last=False)
                live = self._running[id] = RunningJob(job, replica, replica.claim())
                live.task = self._spawn(self._attempt(live))

    async def _attempt(self, live: RunningJob) -> None:
        """One attempt at a job, from the queue to its end or back."""
        try:
            await self._try(live)
        except Exception as problem:  # of the database: the next start recovers the job
            self._running.pop(live.job.id, None)
            self._fail_waiter(live.job.id, problem)
            raise
        finally:
            live.close()

    async def _try(self, live: RunningJob) -> None:
        job = live.job
        fields = {"status": "in_progress", "attempts": job.attempts + 1, "progress": 0}
        begun = await self._change(
            job.id, only_from={"queued"}, started_at=int(time.time()), **fields
        )
        if begun is None or live.stop_reason:
            await self._settle(live, {"cancelled": job.id})
            return
        live.job = begun
        clock = asyncio.get_running_loop().call_later(
            self._policy.request_timeout, live.stop, "timeout", CANCEL_TIMEOUT_SECONDS
        )
        try:
            await self._settle(live, await live.run(self._write_progress))
        except EngineDied as death:
            await asyncio.to_thread(remove_half_written, self.folders, live.claim.pid)
            await self._engine_died(live, str(death))
        finally:
            clock.cancel()

    async def _settle(self, live: RunningJob, reply: Mapping[str, Any]) -> None:
        """Store how a job ended."""
        fields = live.final_fields(reply, self._policy.request_timeout)
        if "done" in reply:
            self._average_seconds += (reply["seconds"] - self._average_seconds) / 4
        await self._end(live.job.id, fields, {"in_progress"}, self._change)

    async def _engine_died(self, live: RunningJob, reason: str) -> None:
        """The engine of a job died: the job returns to the front of the queue, or fails."""
        job = live.job
        if self._stopping:
            await self._requeue_for_next_start(live)
        elif live.stop_reason:
            await self._settle(live, {"cancelled": job.id})
        elif job.attempts >= self._policy.job_attempts:
            tries = f" (attempt {job.attempts} of {self._policy.job_attempts})"
            failed = {"failed": job.id, "code": "engine_died", "message": reason + tries}
            await self._settle(live, failed)
        else:
            log.warning("job %s waits for another engine: %s", job.id, reason)
            again = await self._change(job.id, status="queued", progress=0, started_at=None)
            self._running.pop(job.id, None)
            if again:
                self._return_to_queue(again)
            if live.stop_reason:
                await self.cancel(job.id)
            self._dispatch()

    async def _requeue_for_next_start(self, live: RunningJob) -> None:
        """The server stops: queue a video for the next start; this attempt does not count."""
        job = live.job
        if live.stop_reason or job.kind == "image":
            await self._settle(live, {"cancelled": job.id})
            return
        await self._jobs.change(
            job.id, status="queued", progress=0, started_at=None, attempts=job.attempts - 1
        )
        self._running.pop(job.id, None)

    async def _end(
        self, id: str, fields: Mapping[str, Any], only_from: set[Status], change: ChangeJob
    ) -> None:
        """Give a job its final state, wake those who wait for it, and remove expired jobs."""
        job = await change(id, only_from=only_from, **fields)
        self._running.pop(id, None)
        over = self._waiters.pop(id, None)
        if job is None:
            job = await self._jobs.get(id)
        else:
            self._ended[job.status] += 1
            if job.status == "completed":
                self._uploads.add(job)
            else:
                await asyncio.to_thread(remove_outputs, self.folders, job)
        if over and not over.done():
            if job:
                over.set_result(job)
            else:
                over.set_exception(KeyError(id))
        if not self._stopping:
            self._spawn(self._retention.remove_expired())

    async def _change(self, id: str, **fields: Any) -> Job | None:
        """Change a job as soon as the disk has space for it, so that no state is lost.

        A client that waits for the job gets the error at once, and an image is then cancelled.
        """
        while True:
            try:
                return await self._jobs.change(id, **fields)
            except sqlite3.Error as problem:
                if self._stopping or not is_disk_full(problem):
                    raise
                log.error("job %s waits for space: the disk is full", id)
                live = self._running.get(id)
                if self._fail_waiter(id, problem) and live and live.job.kind == "image":
                    live.stop_reason = "cancelled"
            await asyncio.sleep(DISK_FULL_SECONDS)

    def _fail_waiter(self, id: str, problem: Exception) -> bool:
        """Raise an error where a client waits for a job; whether there was one."""
        over = self._waiters.pop(id, None)
        if over is None or over.done():
            return False
        over.set_exception(problem)
        return True

    def _return_to_queue(self, job: Job) -> None:
        self._queue[job.id] = job
        self._queue.move_to_end(job.id, last=False)

    def _write_progress(self, live: RunningJob) -> None:
        """Write progress to the database, at intervals; responses have the current value."""
        self._spawn(
            self._jobs.change(live.job.id, only_from={"in_progress"}, progress=live.progress)
        )

    def _send_to_engine(self, message: Mapping[str, Any]) -> bool:
        return any(replica.send(message) for replica in self._replicas)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine to its end, whatever happens to its caller; a failure goes to the log."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()):
            if is_disk_full(problem):
                log.error("a job's state is not written: the disk is full")
            else:
                log.error("internal error: %r", problem, exc_info=problem)

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs to its end even if the caller is cancelled."""
        return await asyncio.shield(self._spawn(work))
