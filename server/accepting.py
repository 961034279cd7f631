"""The last steps of every request that makes something: keep its pictures, queue its job."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from server.job import Job
from server.runs import with_pictures
from server.served import Served
from server.service import Service
from server.uploads import Source, discard, keep


def new_id(prefix: str) -> str:
    """An id that nobody can guess, and a plain file name."""
    return f"{prefix}_{secrets.token_hex(16)}"


def encoding(served: Served, values: Mapping[str, Any], suffix: str, word: str) -> dict[str, Any]:
    """How files are written: as the request says, else by `word`, else as the server was told."""
    told = served.policies.output
    by_word = word if word != "default" else told.quality
    return {
        "suffix": suffix,
        "quality": values.get("output_quality", by_word),
        "compression": values.get("output_compression", told.compression),
        "x264_preset": values.get("x264_preset", told.x264_preset),
    }


async def accept(
    served: Served, service: Service, job: Job, pictures: Sequence[tuple[str, Source]]
) -> Job:
    """Keep the pictures that came along and queue the job; durable when this returns.

    A job that is refused leaves no file behind. Where nobody knows whether it was accepted, because
    this was cancelled, its files stay: the next start removes those that no job owns.
    """
    folder = service.folders.inputs
    kept = await keep(job.id, pictures, folder, served.policies.server)
    try:
        runs = with_pictures(served, job.runs, kept)
        whole = dataclasses.replace(job, runs=runs, inputs=tuple(path.name for path in kept))
        return await service.submit(whole)
    except Exception:
        discard(kept)
        raise
