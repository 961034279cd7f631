"""`/v1/images`: pictures, made while the client waits."""

from __future__ import annotations

import asyncio
import base64
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.accept import accept, encoding, new_id
from server.errors import ApiError, Json, bad, not_found
from server.file_responses import index_of, local, send, stored_file, url_of
from server.job import Job
from server.request_body import Given, read
from server.request_to_runs import Pictures, build_runs, check_model, sources
from server.schemas import (
    ENCODING_BY_QUALITY,
    FORMATS,
    STEPS_BY_QUALITY,
    Accepts,
    edit_fields,
    image_fields,
)
from server.served_model import FRAMES, PICTURE, STEPS, Served
from server.service import Service

JSON, FORM = "application/json", "multipart/form-data"
PATCH = 16  # px, the side of what counts as one image token
WORD = re.compile(r"\w+|[^\w\s]")  # what counts as one text token
ECHOED_QUALITY = {"auto": "high", "standard": "high", "hd": "high"}
FAILED_STATUS = {"invalid_request": 400, "timeout": 504, "shutting_down": 503}


@dataclass(frozen=True)
class Images:
    """The operations on pictures."""

    served: Served
    service: Service

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v1/images/generations", self.generate, methods=["POST"]),
            Route("/v1/images/edits", self.edit, methods=["POST"]),
            Route("/v1/images/{id}/content", self.content),
        ]

    async def generate(self, request: Request) -> Response:
        """Make pictures from a prompt."""
        accepts = image_fields(self.served)
        return await self._make(request, await self._read(request, accepts, JSON), "")

    async def edit(self, request: Request) -> Response:
        """Make pictures from a prompt and a picture."""
        accepts = edit_fields(self.served)
        given = await self._read(request, accepts, FORM)
        if not any(given.files.get(name) for name in ("image", "url", PICTURE)):
            raise bad("`image` is required", "image", "missing_required_parameter")
        return await self._make(request, given, "b64_json")

    async def content(self, request: Request) -> Response:
        """One picture's file."""
        job = await self.service.get(request.path_params["id"])
        if job is None or job.kind != "image":
            raise not_found(f"there is no image `{request.path_params['id'][:100]}`")
        file = stored_file(job, index_of(request.query_params.get("variant", "0")))
        return send(self.service.folders.outputs, file)

    async def _read(self, request: Request, accepts: Accepts, type: str) -> Given:
        limit = (self.served.policies.server.max_upload_mb + 1) << 20
        return await read(request, accepts, (type,), limit)

    async def _make(self, request: Request, given: Given, form: str) -> Response:
        values = given.values
        check_model(self.served, values)
        _check_unsupported(self.served, values)
        pictures = sources(self.served, given)
        asked = self._still(values)
        runs = build_runs(self.served, asked, pictures)
        word = ENCODING_BY_QUALITY[values.get("quality", "auto")]
        suffix = FORMATS[values.get("output_format", "png")]
        meta = _meta(self.served, values, runs[0], form, pictures)
        written = encoding(self.served, values, suffix, word)
        if meta["response_format"] == "b64_json":
            written["upload"] = False  # an upload deletes the file that the answer is to hold
        job = Job(
            id=new_id("img"), kind="image", runs=runs, created_at=int(time.time()),
            encoding=written, meta=meta,
        )  # fmt: skip
        job = await accept(self.served, self.service, job, pictures)
        job = await finished(request, self.service, job.id)
        return Json(await self._answer(request, job))

    def _still(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The request for single frames, with as many steps as its quality says."""
        asked = dict(values)
        if FRAMES in self.served.fields and asked.setdefault(FRAMES, 1) != 1:
            raise bad("a picture has one frame; POST /v1/videos makes clips", FRAMES)
        field, fraction = (
            self.served.fields.get(STEPS),
            STEPS_BY_QUALITY.get(values.get("quality", "")),
        )
        if field is not None and fraction is not None and STEPS not in asked:
            usual = self.served.runtime.request.get(STEPS, field.default) or 1
            asked[STEPS] = max(round(usual * fraction), int(field.min or 1))
        return asked

    async def _answer(self, request: Request, job: Job) -> dict[str, Any]:
        meta = job.meta
        data = [await self._item(request, job, index) for index in range(len(job.files))]
        return {
            "id": job.id,
            "created": job.created_at,
            "data": data,
            "background": "opaque",
            "output_format": meta["output_format"],
            "quality": meta["quality"],
            "size": meta["size"],
            "peak_memory_mb": job.peak_memory_mb,
            "inference_time_s": job.seconds,
            "usage": usage(meta, len(data)),
        }

    async def _item(self, request: Request, job: Job, index: int) -> dict[str, Any]:
        form, file = job.meta["response_format"], job.files[index]
        data = None
        path = local(self.service.folders.outputs, file)
        if form != "url" and path is not None:
            data = base64.b64encode(await asyncio.to_thread(path.read_bytes)).decode()
        shown = form != "b64_json" or data is None  # the store may have the only copy
        return {
            "b64_json": data,
            "url": url_of(request, job, index) if shown else None,
            "revised_prompt": job.meta["prompt"],
            "file_path": file.name,
            "resize": None,
        }


def _check_unsupported(served: Served, values: Mapping[str, Any]) -> None:
    """What OpenAI offers and this server does not, said rather than ignored."""
    if not served.pictures:
        raise bad("this model makes clips only: POST /v1/videos", "model", "unsupported_output")
    if values.get("stream"):
        raise bad(
            "answers are not streamed here; leave `stream` out", "stream", "unsupported_value"
        )
    if values.get("partial_images"):
        raise bad("there are no partial images here; leave them out", "partial_images",
                  "unsupported_value")  # fmt: skip
    if values.get("background") == "transparent":
        raise bad("pictures are opaque here; leave `background` out", "background",
                  "unsupported_value")  # fmt: skip


def _meta(
    served: Served,
    values: Mapping[str, Any],
    run: Mapping[str, Any],
    form: str,
    pictures: Pictures,
) -> dict[str, Any]:
    """What the answer repeats."""
    quality = values.get("quality", "auto")
    sides = run.get("width"), run.get("height")
    return {
        "model": served.name,
        "prompt": values["prompt"],
        "size": f"{sides[0]}x{sides[1]}" if all(sides) else None,
        "quality": ECHOED_QUALITY.get(quality, quality),
        "output_format": values.get("output_format", "png"),
        "response_format": values.get("response_format", form),
        "pictures": sum(map(len, pictures.values())),
    }


def usage(meta: Mapping[str, Any], outputs: int) -> dict[str, Any]:
    """Tokens, counted without the model's tokenizer, which this process does not load.

    A word or a punctuation mark of the prompt is a text token; a patch of 16x16 px is an image
    token, of the pictures drawn and of those sent, which are drawn over at the same size.
    """
    width, height = map(int, (meta["size"] or "0x0").split("x"))
    patches = math.ceil(width / PATCH) * math.ceil(height / PATCH)
    text, given, drawn = (
        len(WORD.findall(meta["prompt"])),
        patches * meta["pictures"],
        patches * outputs,
    )
    return {
        "input_tokens": text + given,
        "output_tokens": drawn,
        "total_tokens": text + given + drawn,
        "input_tokens_details": {"text_tokens": text, "image_tokens": given},
        "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
        "prompt_tokens": text + given,
        "completion_tokens": drawn,
        "prompt_tokens_details": {"cached_tokens": 0},
        "reasoning_tokens": 0,
        "image_count": outputs,
    }


async def finished(request: Request, service: Service, id: str) -> Job:
    """The completed job; a failure is an ApiError.

    A client that goes away cancels it: the service cancels what nobody waits for any more.
    """
    waiting = asyncio.ensure_future(service.wait(id))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return _completed(waiting.result())
    finally:
        for task in (waiting, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    raise ApiError(499, "the client went away", code="client_closed_request")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _completed(job: Job) -> Job:
    if job.status == "completed":
        return job
    if job.error is None:
        raise ApiError(503, f"`{job.id}` was cancelled", code="cancelled")
    status = FAILED_STATUS.get(job.error.code, 500)
    raise ApiError(status, f"`{job.id}` failed: {job.error.message}", code=job.error.code)
