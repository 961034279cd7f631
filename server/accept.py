"""The last steps of every generation request: store its uploads, then queue its job."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from itertools import chain
from typing import Any

from server.errors import ApiError
from server.input_clips import store_clips
from server.input_files import delete_pictures, store_pictures
from server.job import Job
from server.request_to_runs import UploadsByField, with_paths
from server.served_model import ServedModel
from server.service import Service

RETRY_SECONDS = "30"


def new_id(prefix: str) -> str:
    """An id that nobody can guess, and a plain file name."""
    return f"{prefix}_{secrets.token_hex(16)}"


def file_encoding(
    served: ServedModel, values: Mapping[str, Any], suffix: str, word: str
) -> dict[str, Any]:
    """How files are written: by the request, else by `word`, else by the server's settings."""
    output = served.policies.output
    by_word = word if word != "default" else output.quality
    return {
        "suffix": suffix,
        "quality": values.get("output_quality", by_word),
        "compression": values.get("output_compression", output.compression),
        "x264_preset": values.get("x264_preset", output.x264_preset),
    }


def _check_engines(service: Service) -> None:
    """Refuse a job that no engine would ever run: every engine has refused to start."""
    states = {engine["state"] for engine in service.stats()["engines"]}
    if states == {"refused"}:
        why = f"the engine cannot start: {service.not_ready()}"
        raise ApiError(503, why, code="not_ready", headers={"Retry-After": RETRY_SECONDS})


async def accept(served: ServedModel, service: Service, job: Job, uploads: UploadsByField) -> Job:
    """Store the uploads of a request and queue its job; the job is durable on return.

    A job that is refused leaves no file behind. Where this coroutine is cancelled, it is unknown
    whether the job was accepted, so its files stay: the next start removes files without a job.
    """
    _check_engines(service)
    folder, policy = service.folders.inputs, served.policies.server
    pictures = {n: u for n, u in uploads.items() if n not in served.clip_fields}
    clips = {n: u for n, u in uploads.items() if n in served.clip_fields}
    stored = await store_pictures(
        job.id, list(chain.from_iterable(pictures.values())), folder, policy
    )
    try:
        stored += await store_clips(
            job.id, list(chain.from_iterable(clips.values())), folder, policy
        )
        rest = iter(stored)
        paths = {n: [next(rest) for _ in found] for n, found in (pictures | clips).items()}
        runs = with_paths(served, job.runs, paths)
        complete = dataclasses.replace(job, runs=runs, inputs=tuple(path.name for path in stored))
        return await service.submit(complete)
    except Exception:
        delete_pictures(stored)
        raise
