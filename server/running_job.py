"""A job that an engine runs: its live progress, and being told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from server.engine_connection import Link
from server.job import Job
from server.replica import Replica

WRITE_SECONDS = 0.5  # between two writes of progress to the database
ALMOST = 99  # percent: only a completed job has 100


@dataclass
class Running:
    """One attempt in progress.

    claim   the engine process that was claimed for it
    halted  why it was told to stop, if it was
    """

    job: Job
    replica: Replica
    claim: Link
    task: asyncio.Task[None] | None = None
    progress: int = 0
    halted: Literal["", "cancelled", "timeout"] = ""
    _used: bool = False
    _written_at: float = 0.0
    _patience: asyncio.TimerHandle | None = None

    async def run(self, note: Callable[[Running], None]) -> dict[str, Any]:
        """Run on the claimed engine; the message that ends the job. Raises EngineDied.

        note  called when it is time to write progress down
        """

        def step(done: int, of: int) -> None:
            self.progress = max(self.progress, min(ALMOST, 100 * done // max(of, 1)))
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

    def halt(self, why: Literal["cancelled", "timeout"], patience: float) -> None:
        """Tell the engine to stop; one that does not obey within `patience` seconds is killed."""
        if self.halted:
            return
        self.halted = why
        self.claim.send({"cancel": self.job.id})
        self._patience = asyncio.get_running_loop().call_later(patience, self.claim.kill)

    def close(self) -> None:
        """End the attempt: an engine that was claimed and not used is free again."""
        if self._patience:
            self._patience.cancel()
        if not self._used:
            self.replica.release(self.claim)
