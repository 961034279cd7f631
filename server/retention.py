"""Removal of jobs with their files: on request, and when they are too many or too old."""

from __future__ import annotations

import asyncio
import logging
import time

from runtime.files.object_store import UploadFailed
from runtime.settings.policies import Server
from server.job import Job, JobKind
from server.job_files import Folders, remove_files, remove_orphans
from server.jobs import Jobs
from server.object_files import ObjectFiles
from server.upload_retries import UploadRetries

PAUSE_SECONDS = 60.0  # between two searches for expired jobs

log = logging.getLogger("sglang.server")


class Retention:
    """Removes jobs with their files, local ones and those in the object store."""

    def __init__(
        self,
        jobs: Jobs,
        folders: Folders,
        uploads: UploadRetries,
        objects: ObjectFiles,
        policy: Server,
    ) -> None:
        self._jobs, self._folders, self._uploads = jobs, folders, uploads
        self._objects, self._policy = objects, policy
        self._turn = asyncio.Lock()

    async def sweep(self) -> list[Job]:
        """Remove the files of an earlier process that no job owns; returns all jobs."""
        jobs: list[Job] = []
        kinds: tuple[JobKind, ...] = ("image", "video")
        for kind in kinds:
            more, after = True, None
            while more:
                page, more = await self._jobs.page(kind, after=after, limit=500)
                jobs += page
                after = page[-1].id if page else None
        await asyncio.to_thread(remove_orphans, self._folders, jobs)
        return jobs

    async def remove(self, job: Job) -> bool:
        """Remove a job's files and objects, then its row: a removal that fails can be repeated.

        Raises UploadFailed where the object store does not answer; the row stays.
        """
        self._uploads.forget(job)
        await asyncio.to_thread(remove_files, self._folders, job)
        await self._objects.delete([file.name for file in job.files if file.url is not None])
        return await self._jobs.remove(job.id) is not None

    async def remove_expired(self) -> None:
        """Remove the jobs that are too many or too old."""
        async with self._turn:
            keep, hours = self._policy.keep_jobs, self._policy.keep_hours
            for job in await self._jobs.expired(keep, hours, int(time.time())):
                await self.remove(job)

    async def watch(self) -> None:
        """Remove expired jobs, again and again."""
        while True:
            try:
                await self.remove_expired()
            except UploadFailed as problem:
                log.warning("expired jobs stay: %s", problem.reason)
            except Exception:  # a disk that is read-only now may be writable in a minute
                log.exception("expired jobs cannot be removed")
            await asyncio.sleep(PAUSE_SECONDS)
