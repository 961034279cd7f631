"""A job: what was accepted, how far it is, what came of it. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["image", "video"]
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class JobError:
    """Why a job failed, in OpenAI's words: a short code, and a message without server paths."""

    code: str
    message: str


@dataclass(frozen=True)
class StoredFile:
    """One output file.

    name    in the output folder, from the job's id: `{id}_{index}{suffix}`; also its object key
    url     where the object store serves it; none while it is local only
    upload  why it is not (yet) in the object store, where one is configured
    """

    name: str
    media_type: str
    size: int
    url: str | None = None
    upload: str | None = None


@dataclass(frozen=True)
class Job:
    """One accepted request.

    runs      complete request values, one per output file, checked before
    encoding  suffix, quality, compression, x264_preset; `upload: false` keeps the files here
    inputs    names of uploaded files in the input folder that belong to this job
    meta      what answers repeat: model, prompt, size, seconds, response_format, ...
    progress  0 to 100, by denoising step; 100 only when completed
    attempts  how often an engine started it
    times     Unix seconds
    seconds   time that the engine took
    """

    id: str
    kind: Kind
    runs: tuple[Mapping[str, Any], ...]
    created_at: int
    encoding: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "queued"
    progress: int = 0
    attempts: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    files: tuple[StoredFile, ...] = ()
    error: JobError | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL
