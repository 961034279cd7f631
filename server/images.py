"""`/v1/images`: the request is answered when its pictures are made."""

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

from server.accept import accept, file_encoding, new_id
from server.errors import ApiError, JsonResponse, bad_request, not_found, shutting_down
from server.file_responses import (
    file_response,
    index_of,
    local_path,
    query_value,
    stored_file,
    url_of,
)
from server.job import Job
from server.request_body import RequestBody, read_body
from server.request_to_runs import UploadsByField, build_runs, check_model, sources
from server.request_warnings import request_warnings
from server.schemas import (
    ENCODING_BY_QUALITY,
    FORM_TYPE,
    JSON_TYPE,
    STEPS_BY_QUALITY,
    SUFFIX_BY_FORMAT,
    Accepts,
    edit_fields,
    image_fields,
)
from server.served_model import FRAMES_FIELD, IMAGE_FIELD, STEPS_FIELD, ServedModel
from server.service import Service

IMAGE_TOKEN_SIDE = 16  # px, the side of what counts as one image token
TEXT_TOKEN = re.compile(r"\w+|[^\w\s]")  # what counts as one text token
ECHOED_QUALITY = {"auto": "high", "standard": "high", "hd": "high"}
FAILED_STATUS = {
    "invalid_request": 400, "timeout": 504, "shutting_down": 503, "disk_full": 507,
}  # fmt: skip


@dataclass(frozen=True)
class Images:
    """The operations on images."""

    served: ServedModel
    service: Service

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v1/images/generations", self.generate, methods=["POST"]),
            Route("/v1/images/edits", self.edit, methods=["POST"]),
            Route("/v1/images/{id}/content", self.content),
        ]

    async def generate(self, request: Request) -> Response:
        """Generate images from a prompt."""
        accepts = image_fields(self.served)
        return await self._make(request, await self._read(request, accepts, JSON_TYPE), "")

    async def edit(self, request: Request) -> Response:
        """Generate images from a prompt and uploaded images."""
        accepts = edit_fields(self.served)
        given = await self._read(request, accepts, FORM_TYPE)
        names = ("image", "url", IMAGE_FIELD, *self.served.clip_fields)
        if not any(given.files.get(name) for name in names):
            raise bad_request("`image` is required", "image", "missing_required_parameter")
        return await self._make(request, given, "b64_json")

    async def content(self, request: Request) -> Response:
        """The file of one image."""
        job = await self.service.get(request.path_params["id"])
        if job is None or job.kind != "image":
            raise not_found(f"there is no image `{request.path_params['id'][:100]}`")
        file = stored_file(job, index_of(query_value(request, "variant", "0")))
        return file_response(request, self.service.folders.outputs, file)

    async def _read(self, request: Request, accepts: Accepts, type: str) -> RequestBody:
        limit = (self.served.policies.server.max_upload_mb + 1) << 20
        return await read_body(request, accepts, (type,), limit)

    async def _make(self, request: Request, given: RequestBody, form: str) -> Response:
        values = given.values
        check_model(self.served, values)
        _check_unsupported(self.served, values)
        uploads = sources(self.served, given)
        asked = self._still(values)
        runs = build_runs(self.served, asked, uploads)
        word = ENCODING_BY_QUALITY[values.get("quality", "auto")]
        suffix = SUFFIX_BY_FORMAT[values.get("output_format", "png")]
        meta = _image_meta(self.served, values, runs[0], form, uploads)
        meta["warnings"] = request_warnings(given, runs[0])
        written = file_encoding(self.served, values, suffix, word)
        if meta["response_format"] == "b64_json":
            written["upload"] = False  # an upload removes the local file, which the response needs
        job = Job(
            id=new_id("img"), kind="image", runs=runs, created_at=int(time.time()),
            encoding=written, meta=meta,
        )  # fmt: skip
        job = await accept(self.served, self.service, job, uploads)
        job = await finished(request, self.service, job.id)
        return JsonResponse(await self._answer(request, job))

    def _still(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The request for single frames, with as many steps as its quality says."""
        asked = dict(values)
        if FRAMES_FIELD in self.served.fields and asked.setdefault(FRAMES_FIELD, 1) != 1:
            raise bad_request("an image has one frame; POST /v1/videos makes videos", FRAMES_FIELD)
        field, fraction = (
            self.served.fields.get(STEPS_FIELD),
            STEPS_BY_QUALITY.get(values.get("quality", "")),
        )
        if field is not None and fraction is not None and STEPS_FIELD not in asked:
            usual = self.served.runtime.request.get(STEPS_FIELD, field.default) or 1
            asked[STEPS_FIELD] = max(round(usual * fraction), int(field.min or 1))
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
            "size": job.size,
            "seeds": job.seeds,
            "warnings": job.warnings,
            "peak_memory_mb": job.peak_memory_mb,
            "inference_time_s": job.seconds,
            "usage": usage({**meta, "size": job.size}, len(data)),
        }

    async def _item(self, request: Request, job: Job, index: int) -> dict[str, Any]:
        form, file = job.meta["response_format"], job.files[index]
        data = None
        path = local_path(self.service.folders.outputs, file)
        if form != "url" and path is not None:
            data = base64.b64encode(await asyncio.to_thread(path.read_bytes)).decode()
        include_url = form != "b64_json" or data is None  # where only the object store has the file
        return {
            "b64_json": data,
            "url": url_of(request, job, index) if include_url else None,
            "revised_prompt": job.meta["prompt"],
            "file_path": file.name,
            "resize": None,
            "seed": job.seed_of(file),
        }


def _check_unsupported(served: ServedModel, values: Mapping[str, Any]) -> None:
    """Refuse options of OpenAI that this server does not have, rather than ignore them."""
    if not served.pictures:
        raise bad_request(
            "this model makes videos only: POST /v1/videos", "model", "unsupported_output"
        )
    if values.get("stream"):
        raise bad_request(
            "this server does not stream images; leave `stream` out", "stream", "unsupported_value"
        )
    if values.get("partial_images"):
        raise bad_request(
            "this server sends no partial images; leave `partial_images` out", "partial_images",
            "unsupported_value",
        )  # fmt: skip
    if values.get("background") == "transparent":
        raise bad_request(
            "this server makes opaque images only; leave `background` out", "background",
            "unsupported_value",
        )  # fmt: skip


def _image_meta(
    served: ServedModel,
    values: Mapping[str, Any],
    run: Mapping[str, Any],
    form: str,
    uploads: UploadsByField,
) -> dict[str, Any]:
    """The values of the request that the response repeats."""
    quality = values.get("quality", "auto")
    sides = run.get("width"), run.get("height")
    return {
        "model": served.name,
        "prompt": values["prompt"],
        "size": f"{sides[0]}x{sides[1]}" if all(sides) else None,
        "quality": ECHOED_QUALITY.get(quality, quality),
        "output_format": values.get("output_format", "png"),
        "response_format": values.get("response_format", form),
        "pictures": sum(len(uploads.get(name, ())) for name in served.image_fields),
    }


def usage(meta: Mapping[str, Any], outputs: int) -> dict[str, Any]:
    """Tokens, counted without the model's tokenizer, which this process does not load.

    A word or a punctuation mark of the prompt is one text token. A patch of 16x16 px is one image
    token, of the images made and of those uploaded, which count at the size of the result.
    """
    width, height = map(int, (meta["size"] or "0x0").split("x"))
    patches = math.ceil(width / IMAGE_TOKEN_SIDE) * math.ceil(height / IMAGE_TOKEN_SIDE)
    text, given, drawn = (
        len(TEXT_TOKEN.findall(meta["prompt"])),
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
    """Wait for the job, and return it completed; raises ApiError where it failed.

    When the client disconnects, the wait ends, and the service cancels the job.
    """
    waiting = asyncio.ensure_future(service.wait(id))
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return _completed(waiting.result(), service)
    finally:
        for task in (waiting, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    raise ApiError(499, "the client closed the connection", code="client_closed_request")


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _completed(job: Job, service: Service) -> Job:
    if job.status == "completed":
        return job
    if job.error is None and service.is_draining:
        raise shutting_down()
    if job.error is None:
        raise ApiError(503, f"`{job.id}` was cancelled", code="cancelled")
    status = FAILED_STATUS.get(job.error.code, 500)
    raise ApiError(status, f"`{job.id}` failed: {job.error.message}", code=job.error.code)
