"""Files that the object store did not take at first: sent again, with longer and longer pauses."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from server.job import Job, StoredFile
from server.job_files import Folders, remove
from server.jobs import Jobs

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds
PATIENCE = 1800.0  # seconds until a reply is no longer expected: its engine has died

log = logging.getLogger("sglang.server")


class Uploads:
    """The retries of one server.

    tell  sends a message to an engine; false where none is ready
    """

    def __init__(
        self, jobs: Jobs, folders: Folders, tell: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        self._jobs, self._folders, self._tell = jobs, folders, tell
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._replies: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._turn = asyncio.Lock()  # a job's files are one field: read, then written

    def add(self, job: Job) -> None:
        """Keep trying with the files of a job that are not in the store."""
        for file in job.files:
            if file.upload is not None and file.url is None and file.name not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._retry(job.id, file.name))
                self._tasks[file.name] = task

    def forget(self, job: Job) -> None:
        """Stop trying: the job is about to be removed."""
        for file in job.files:
            if task := self._tasks.pop(file.name, None):
                task.cancel()
            self._replies.pop(file.name, None)

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take an engine's reply."""
        reply = self._replies.pop(str(message.get("name")), None)
        if reply and not reply.done():
            reply.set_result(message)

    async def stop(self) -> None:
        """Stop trying until the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _retry(self, id: str, name: str) -> None:
        try:
            await self._until_sent(id, name)
        finally:
            self._tasks.pop(name, None)

    async def _until_sent(self, id: str, name: str) -> None:
        for attempt in count():
            await asyncio.sleep(min(FIRST_PAUSE * 2 ** min(attempt, 20), LONGEST_PAUSE))
            reply = self._replies[name] = asyncio.get_running_loop().create_future()
            if not self._tell({"upload": id, "name": name}):
                continue
            try:
                async with asyncio.timeout(PATIENCE):
                    message = await reply
            except TimeoutError:
                continue
            url, reason = message.get("url"), message.get("message")
            if not await self._note(id, name, url, reason):
                return
            if url is not None:
                await asyncio.to_thread(remove, self._folders.outputs, [name])
                return
            log.info("the file %s is not uploaded: %s", name, reason)

    async def _note(self, id: str, name: str, url: str | None, reason: str | None) -> bool:
        """Write what came of an upload into the job; false where the job is gone."""
        async with self._turn:
            job = await self._jobs.get(id)
            if job is None:
                return False
            files = tuple(
                dataclasses.replace(f, url=url, upload=reason) if f.name == name else f
                for f in job.files
            )
            if files == job.files:
                return True
            return await self._jobs.change(id, files=files) is not None


def stored(files: list[dict[str, Any]]) -> tuple[StoredFile, ...]:
    """The files of a `done` message."""
    return tuple(StoredFile(**file) for file in files)
