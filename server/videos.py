"""`/v1/videos`: the job is answered at once, and the client polls its status."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.accept import accept, file_encoding, new_id
from server.errors import JsonResponse, bad_request, not_found
from server.file_responses import (
    content_disposition,
    file_response,
    index_of,
    local_path,
    query_value,
    stored_file,
    url_of,
)
from server.job import Job
from server.previews import spritesheet, thumbnail
from server.request_body import read_body
from server.request_to_runs import build_runs, check_model, fitting_frames, seconds_text, sources
from server.request_warnings import request_warnings
from server.schemas import SECONDS, video_fields
from server.served_model import FRAMES_FIELD, ServedModel
from server.service import Service

POLL = {"openai-poll-after-ms": "500"}
DEFAULT_SECONDS, DEFAULT_FPS = 4.0, 24.0  # OpenAI's defaults, used where the graph has none
PREVIEWS: Mapping[str, tuple[Callable[[Path], bytes], str]] = {
    "thumbnail": (thumbnail, "image/webp"),
    "spritesheet": (spritesheet, "image/jpeg"),
}
# OpenAI's operations that this server lacks: without them `/v1/videos/{id}` would match.
UNSUPPORTED_OPERATIONS = ("edits", "extensions", "characters")


@dataclass(frozen=True)
class Videos:
    """The operations on videos."""

    served: ServedModel
    service: Service

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v1/videos", self.create, methods=["POST"]),
            Route("/v1/videos", self.list),
            *(
                Route(f"/v1/videos/{name}", unsupported_operation, methods=["POST", "GET"])
                for name in UNSUPPORTED_OPERATIONS
            ),
            Route("/v1/videos/{id}", self.retrieve),
            Route("/v1/videos/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/videos/{id}/content", self.content),
        ]

    async def create(self, request: Request) -> Response:
        """Create a job that generates videos."""
        limit = (self.served.policies.server.max_upload_mb + 1) << 20
        types = ("application/json", "multipart/form-data")
        given = await read_body(request, video_fields(self.served), types, limit)
        values = given.values
        check_model(self.served, values)
        if not self.served.clips:
            raise bad_request(
                "this model makes images only: POST /v1/images/generations", "model",
                "unsupported_output",
            )  # fmt: skip
        uploads = sources(self.served, given)
        seconds = wanted_seconds(values)
        asked = dict(values) | self._frames(values, seconds)
        runs = build_runs(self.served, asked, uploads)
        meta = _video_meta(self.served, values, runs[0], seconds)
        meta["warnings"] = request_warnings(given, runs[0], seconds=meta["seconds"])
        job = Job(
            id=new_id("video"), kind="video", runs=runs, created_at=int(time.time()),
            encoding=file_encoding(self.served, values, ".mp4", "default"),
            meta=meta,
        )  # fmt: skip
        job = await accept(self.served, self.service, job, uploads)
        return JsonResponse(self._video(request, job), headers=POLL)

    async def retrieve(self, request: Request) -> Response:
        """One job; a job that failed is a 200, too."""
        return JsonResponse(self._video(request, await self._job(request)), headers=POLL)

    async def list(self, request: Request) -> Response:
        """A page of jobs."""
        limit, order = query_value(request, "limit", "20"), query_value(request, "order", "desc")
        after = query_value(request, "after", "") or None
        if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= 100:
            raise bad_request(
                f'`limit` expects a number from 1 to 100, got "{limit[:60]}"', "limit"
            )
        if order not in {"asc", "desc"}:
            raise bad_request(f'`order` expects asc or desc, got "{order[:60]}"', "order")
        way = cast(Literal["asc", "desc"], order)
        try:
            found, more = await self.service.page("video", after=after, limit=int(limit), order=way)
        except KeyError:
            raise bad_request(
                f'`after` expects the id of a video, got "{(after or "")[:60]}"', "after"
            ) from None
        return JsonResponse(
            {
                "object": "list",
                "data": [self._video(request, job) for job in found],
                "first_id": found[0].id if found else None,
                "last_id": found[-1].id if found else None,
                "has_more": more,
            }
        )

    async def delete(self, request: Request) -> Response:
        """Cancel a job and remove it with its files."""
        job = await self._job(request)
        if not await self.service.delete(job.id):
            raise _missing(job.id)
        return JsonResponse({"id": job.id, "deleted": True, "object": "video.deleted"})

    async def content(self, request: Request) -> Response:
        """The file of a video, or its thumbnail or spritesheet."""
        job, variant = await self._job(request), query_value(request, "variant", "video")
        if variant in PREVIEWS:
            return await self._preview(request, job, variant)
        if variant != "video" and not variant.isdecimal():
            known = f"video, {', '.join(PREVIEWS)} or a number"
            raise bad_request(f'`variant` expects {known}, got "{variant[:60]}"', "variant")
        file = stored_file(job, 0 if variant == "video" else index_of(variant))
        return file_response(request, self.service.folders.outputs, file)

    async def _preview(self, request: Request, job: Job, variant: str) -> Response:
        """Pictures of a video. A file that was uploaded is fetched from the object store."""
        make, media_type = PREVIEWS[variant]
        disposition, file = content_disposition(request), stored_file(job, 0)
        suffix = "webp" if variant == "thumbnail" else "jpg"
        headers = {"Content-Disposition": f'{disposition}; filename="{job.id}_{variant}.{suffix}"'}
        path = local_path(self.service.folders.outputs, file)
        if path is not None:
            data = await asyncio.to_thread(make, path)
        elif file.url is not None:
            async with self.service.objects.downloaded(file.name) as copy:
                data = await asyncio.to_thread(make, copy)
        else:
            raise not_found(f"the file of `{job.id}` is not on this server any more", "no_content")
        return Response(data, media_type=media_type, headers=headers)

    async def _job(self, request: Request) -> Job:
        id = request.path_params["id"]
        job = await self.service.get(id)
        if job is None or job.kind != "video":
            raise _missing(id)
        return job

    def _frames(self, values: Mapping[str, Any], seconds: float | None) -> dict[str, int]:
        """`num_frames` computed from `seconds` and `fps`, unless the request gives it."""
        field = self.served.fields.get(FRAMES_FIELD)
        if field is None or FRAMES_FIELD in values:
            return {}
        usual = self.served.runtime.request.get(FRAMES_FIELD, field.default) or 1
        if seconds is None and usual > 1:
            return {}
        rate = _rate(self.served, values)
        wanted = rate * (DEFAULT_SECONDS if seconds is None else seconds)
        return {FRAMES_FIELD: max(fitting_frames(field, wanted), 1)}

    def _video(self, request: Request, job: Job) -> dict[str, Any]:
        """The video object of OpenAI's API."""
        meta, done = job.meta, job.status == "completed"
        urls = [url_of(request, job, index) for index in range(len(job.files))] if done else []
        names = [file.name for file in job.files] if done else []
        ended = job.completed_at if job.is_over else None
        keep_seconds = self.served.policies.server.keep_hours * 3600
        return {
            "id": job.id,
            "object": "video",
            "model": meta["model"],
            "status": "failed" if job.status == "cancelled" else job.status,
            "progress": 100 if done else min(job.progress, 99),
            "created_at": job.created_at,
            "completed_at": ended if done else None,
            "expires_at": int(ended + keep_seconds) if ended else None,
            "prompt": meta["prompt"],
            "size": job.size,
            "seconds": meta["seconds"],
            "fps": meta["fps"],
            "num_frames": meta["num_frames"],
            "quality": "standard",
            "remixed_from_video_id": None,
            "error": _error(job),
            "url": urls[0] if urls else None,
            "urls": urls,
            "file_path": names[0] if names else None,
            "file_paths": names,
            "num_outputs": len(job.runs),
            "peak_memory_mb": job.peak_memory_mb,
            "inference_time_s": job.seconds,
            "revised_prompt": None,
            "seeds": job.seeds,
            "warnings": job.warnings,
        }


async def unsupported_operation(request: Request) -> Response:
    """Answer 404: OpenAI has this operation, this server does not."""
    raise not_found(f"`{request.url.path}` is not served here")


def wanted_seconds(values: Mapping[str, Any]) -> float | None:
    """The `seconds` of a request."""
    text = values.get("seconds")
    if text is None:
        return None
    if not re.fullmatch(SECONDS, text) or float(text) <= 0:
        raise bad_request(
            f'`seconds` expects a number above 0, such as "4", got "{text[:60]}"', "seconds"
        )
    return float(text)


def _rate(served: ServedModel, values: Mapping[str, Any]) -> float:
    """Frames per second: of the request, else the default of the graph."""
    field = served.fields.get("fps")
    own = None if field is None else served.runtime.request.get("fps", field.default)
    return float(values.get("fps") or own or DEFAULT_FPS)


def _video_meta(
    served: ServedModel, values: Mapping[str, Any], run: Mapping[str, Any], seconds: float | None
) -> dict[str, Any]:
    """The values that responses repeat. `seconds` is the real length where the graph cannot make
    the requested one."""
    rate, frames = _rate(served, values), run.get(FRAMES_FIELD)
    made = None if frames is None else frames / rate
    step = served.fields[FRAMES_FIELD].multiple or 1 if FRAMES_FIELD in served.fields else 1
    near = seconds is not None and (made is None or abs(made - seconds) * rate <= step)
    length = seconds if near else made
    sides = run.get("width"), run.get("height")
    return {
        "model": served.name,
        "prompt": values["prompt"],
        "size": f"{sides[0]}x{sides[1]}" if all(sides) else "auto",
        "seconds": seconds_text(length if length is not None else DEFAULT_SECONDS),
        "fps": rate,
        "num_frames": frames,
    }


def _error(job: Job) -> dict[str, str] | None:
    if job.error is not None:
        return {"code": job.error.code, "message": job.error.message}
    if job.status in {"failed", "cancelled"}:
        return {"code": job.status, "message": f"the job was {job.status}"}
    return None


def _missing(id: str) -> Exception:
    return not_found(f"there is no video `{id[:100]}`")
