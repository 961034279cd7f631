"""Why a job is not accepted."""

from __future__ import annotations


class QueueFull(Exception):
    """The queue is full. retry_after: seconds until there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many jobs wait; try again in {retry_after} s")
        self.retry_after = retry_after


class Draining(Exception):
    """The server is stopping and takes no more jobs."""
