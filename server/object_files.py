"""Files of jobs in the object store: fetched and deleted by the HTTP process. Imports no torch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.files.object_store import delete_object, download_object
from runtime.settings.policies import Storage
from server.job_files import Folders

DOWNLOADS = 2  # at the same time: each needs disk space, and a thumbnail is not urgent


class ObjectFiles:
    """The uploaded files. Methods raise UploadFailed where the store does not answer."""

    def __init__(self, policy: Storage, folders: Folders) -> None:
        self._policy, self._folders = policy, folders
        self._downloads = asyncio.Semaphore(DOWNLOADS)

    @asynccontextmanager
    async def downloaded(self, name: str) -> AsyncIterator[Path]:
        """A temporary local copy of an object."""
        async with self._downloads:
            with TemporaryDirectory(prefix=".fetch-", dir=self._folders.inputs) as folder:
                path = Path(folder) / name
                await asyncio.to_thread(download_object, self._policy.store(), name, path)
                yield path

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that do not exist are fine."""
        for name in names:
            await asyncio.to_thread(delete_object, self._policy.store(), name)
