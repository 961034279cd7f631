"""The last steps of every request that makes something: keep its pictures, queue its job."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from server.errors import ApiError
from server.input_files import discard, keep
from server.job import Job
from server.request_to_runs import Pictures, with_pictures
from server.served_model import Served
from server.service import Service

RETRY_SECONDS = "30"


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


def _check_engines(service: Service) -> None:
    """Refuse what would wait for nothing: every engine says that it cannot start."""
    states = {engine["state"] for engine in service.stats()["engines"]}
    if states == {"refused"}:
        why = f"the engine cannot start: {service.not_ready()}"
        raise ApiError(503, why, code="not_ready", headers={"Retry-After": RETRY_SECONDS})


async def accept(served: Served, service: Service, job: Job, pictures: Pictures) -> Job:
    """Keep the pictures that came along and queue the job; durable when this returns.

    A job that is refused leaves no file behind. Where nobody knows whether it was accepted, because
    this was cancelled, its files stay: the next start removes those that no job owns.
    """
    _check_engines(service)
    folder = service.folders.inputs
    flat = [pair for pairs in pictures.values() for pair in pairs]
    kept = await keep(job.id, flat, folder, served.policies.server)
    try:
        rest = iter(kept)
        paths = {name: [next(rest) for _ in pairs] for name, pairs in pictures.items()}
        runs = with_pictures(served, job.runs, paths)
        whole = dataclasses.replace(job, runs=runs, inputs=tuple(path.name for path in kept))
        return await service.submit(whole)
    except Exception:
        discard(kept)
        raise
