"""Retries of failed uploads to the object store, with exponential back-off."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sqlite3
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from server.job import Job, StoredFile
from server.job_files import Folders, remove
from server.jobs import Jobs

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 300.0  # seconds
REPLY_TIMEOUT_SECONDS = 1800.0  # a reply that takes longer is lost: the engine has died

log = logging.getLogger("sglang.server")


class UploadRetries:
    """The upload retries of a server.

    send_to_engine  sends a message to an engine; false where none is ready
    """

    def __init__(
        self, jobs: Jobs, folders: Folders, send_to_engine: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        self._jobs, self._folders, self._send_to_engine = jobs, folders, send_to_engine
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._replies: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._turn = asyncio.Lock()  # `_note` reads a column, then writes it

    def add(self, job: Job) -> None:
        """Retry the uploads of a job that failed."""
        for file in job.files:
            if file.upload is not None and file.url is None and file.name not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._retry(job.id, file.name))
                self._tasks[file.name] = task

    def forget(self, job: Job) -> None:
        """Stop the retries of a job that is about to be removed."""
        for file in job.files:
            if task := self._tasks.pop(file.name, None):
                task.cancel()
            self._replies.pop(file.name, None)

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        """Handle an engine's reply to an upload."""
        reply = self._replies.pop(str(message.get("name")), None)
        if reply and not reply.done():
            reply.set_result(message)

    async def stop(self) -> None:
        """Stop all retries until the next start."""
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
            await asyncio.sleep(
                min(FIRST_RETRY_SECONDS * 2 ** min(attempt, 20), LAST_RETRY_SECONDS)
            )
            reply = self._replies[name] = asyncio.get_running_loop().create_future()
            if not self._send_to_engine({"upload": id, "name": name}):
                continue
            try:
                async with asyncio.timeout(REPLY_TIMEOUT_SECONDS):
                    message = await reply
            except TimeoutError:
                continue
            url, reason = message.get("url"), message.get("message")
            try:
                if not await self._note(id, name, url, reason):
                    return
            except sqlite3.Error:  # the disk is full: an object is uploaded again, to the same name
                continue
            if url is not None:
                await asyncio.to_thread(remove, self._folders.outputs, [name])
                return
            log.info("the file %s is not uploaded: %s", name, reason)

    async def _note(self, id: str, name: str, url: str | None, reason: str | None) -> bool:
        """Store the result of an upload in the job; false where the job is gone."""
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


def stored_files(files: list[dict[str, Any]]) -> tuple[StoredFile, ...]:
    """The files of a `done` message."""
    return tuple(StoredFile(**file) for file in files)
