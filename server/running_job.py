"""A job that an engine is running: its progress, and how it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from server.engine_connection import EngineConnection
from server.job import Job, JobError
from server.replica import Replica
from server.upload_retries import stored_files

WRITE_SECONDS = 0.5  # between two writes of progress to the database
UNFINISHED_PERCENT = 99  # percent: only a completed job has 100


@dataclass
class RunningJob:
    """One attempt in progress.

    claim   the connection to the engine that was claimed for it
    stop_reason  why it is being stopped; empty where it is not
    """

    job: Job
    replica: Replica
    claim: EngineConnection
    task: asyncio.Task[None] | None = None
    progress: int = 0
    stop_reason: Literal["", "cancelled", "timeout"] = ""
    _used: bool = False
    _written_at: float = 0.0
    _patience: asyncio.TimerHandle | None = None

    async def run(self, note: Callable[[RunningJob], None]) -> dict[str, Any]:
        """Run on the claimed engine; the message that ends the job. Raises EngineDied.

        note  called when progress is to be written to the database
        """

        def step(done: int, of: int) -> None:
            self.progress = max(self.progress, min(UNFINISHED_PERCENT, 100 * done // max(of, 1)))
            now = asyncio.get_running_loop().time()
            if now - self._written_at >= WRITE_SECONDS:
                self._written_at = now
                note(self)

        job = self.job
        order = {
            "run": job.id,
            "runs": [dict(run) for run in job.runs],
            "names": [f"{job.id}_{index}" for index in range(len(job.runs))],
            "encoding": dict(job.encoding),
        }
        self._used = True
        return await self.replica.run(self.claim, order, step)

    def stop(self, why: Literal["cancelled", "timeout"], patience: float) -> None:
        """Ask the engine to cancel the job; kill it where it has not after `patience` seconds."""
        if self.stop_reason:
            return
        self.stop_reason = why
        self.claim.send({"cancel": self.job.id})
        self._patience = asyncio.get_running_loop().call_later(patience, self.claim.kill)

    def final_fields(self, reply: Mapping[str, Any], limit: int) -> dict[str, Any]:
        """The job's fields after the message that ended it. limit: longest run in seconds."""
        fields: dict[str, Any] = {"completed_at": int(time.time())}
        if "done" in reply:
            warnings = [*self.job.warnings, *reply.get("warnings", ())]
            return fields | {
                "meta": {**self.job.meta, "warnings": list(dict.fromkeys(warnings))},
                "status": "completed", "progress": 100, "files": stored_files(reply["files"]),
                "seconds": reply["seconds"], "peak_memory_mb": reply["peak_memory_mb"],
            }  # fmt: skip
        if "failed" in reply:
            return fields | {"status": "failed", "error": JobError(reply["code"], reply["message"])}
        if self.stop_reason == "timeout":
            why = f"the job took longer than {limit} s, the longest that this server allows"
            return fields | {"status": "failed", "error": JobError("timeout", why)}
        return fields | {"status": "cancelled"}

    def close(self) -> None:
        """End the attempt: release an engine that was claimed and not used."""
        if self._patience:
            self._patience.cancel()
        if not self._used:
            self.replica.release(self.claim)
