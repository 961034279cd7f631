"""A job: an accepted request, its progress and its result. Plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

JobKind = Literal["image", "video"]
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class JobError:
    """Why a job failed, as in OpenAI's API: a short code, and a message without server paths."""

    code: str
    message: str


@dataclass(frozen=True)
class StoredFile:
    """One output file.

    name    in the output folder, `{id}_{index}{suffix}`; also the key in the object store
    url     in the object store; none while the file is local only
    upload  why the last upload failed, where an object store is configured
    width   px, and height: of the written file, where it could be read
    """

    name: str
    media_type: str
    size: int
    url: str | None = None
    upload: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Job:
    """One accepted request.

    runs      complete and checked request values, one run per output file
    encoding  suffix, quality, compression, x264_preset; `upload: false` keeps the files here
    inputs    names of uploaded files in the input folder that belong to this job
    meta      values that responses repeat: model, prompt, size, seconds, response_format, ...
    progress  0 to 100, by denoising step; 100 only when completed
    attempts  how often an engine started it
    times     Unix seconds
    seconds   run time in the engine
    """

    id: str
    kind: JobKind
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
    def warnings(self) -> list[str]:
        """What the request asked for and had no effect, or was changed."""
        return list(self.meta.get("warnings", ()))

    @property
    def size(self) -> str | None:
        """WIDTHxHEIGHT of the files, else as the request asked; None where neither is known."""
        first = self.files[0] if self.files else None
        if first and first.width and first.height:
            return f"{first.width}x{first.height}"
        return self.meta.get("size")

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each run."""
        return [run.get("seed") for run in self.runs]

    def seed_of(self, file: StoredFile) -> int | None:
        """The seed of the run that made a file: `{id}_{run}`, or `{id}_{run}_{n}` of several."""
        found = re.match(r"_([0-9]+)", file.name.removeprefix(self.id))
        return self.seeds[int(found[1])] if found and int(found[1]) < len(self.runs) else None

    @property
    def is_over(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL
