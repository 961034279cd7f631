"""Responses that send the file of a job, and the URLs of such files."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from server.errors import ApiError, bad_request, not_found
from server.job import Job, StoredFile

HOST_HEADER = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
VARIANT_INDEX = re.compile(r"[0-9]{1,3}")


def base_url(request: Request) -> str:
    """`https://host:port` as the client wrote it. A proxy gives the scheme in X-Forwarded-Proto."""
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    scheme = forwarded if forwarded in {"http", "https"} else request.url.scheme
    host = request.headers.get("host", "")
    if not HOST_HEADER.fullmatch(host):
        name, port = request.scope.get("server") or ("localhost", 80)
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"{scheme}://{host}"


def url_of(request: Request, job: Job, index: int) -> str:
    """The URL of a file: in the object store, else on this server."""
    stored = job.files[index].url
    kind = "images" if job.kind == "image" else "videos"
    return stored or f"{base_url(request)}/v1/{kind}/{job.id}/content?variant={index}"


def stored_file(job: Job, index: int) -> StoredFile:
    """A file of a completed job, else a 404 with the reason."""
    if not job.is_over:
        raise not_found(f"`{job.id}` is still {job.status}: {job.progress} %", "not_ready")
    if job.status != "completed":
        why = f": {job.error.message}" if job.error else ""
        raise not_found(f"`{job.id}` has {job.status}{why}", "no_content")
    if index >= len(job.files):
        raise not_found(
            f"`{job.id}` has {len(job.files)} files, numbered from 0", "no_variant", "variant"
        )
    return job.files[index]


def index_of(variant: str) -> int:
    """The index of a file, from `variant`."""
    if not VARIANT_INDEX.fullmatch(variant):
        raise bad_request(f'`variant` expects a number from 0, got "{variant[:60]}"', "variant")
    return int(variant)


def local_path(folder: Path, file: StoredFile) -> Path | None:
    """The local file, if it is there. Names are made from ids; one that is a path is refused."""
    if Path(file.name).name != file.name or file.name in {"", ".", ".."}:
        raise ApiError(500, "a stored file has no plain name", code="internal_error")
    path = folder / file.name
    return path if path.is_file() else None


def file_response(folder: Path, file: StoredFile) -> Response:
    """The file, with byte ranges; a redirect where only the object store has it."""
    path = local_path(folder, file)
    if path is not None:
        return FileResponse(path, media_type=file.media_type, filename=file.name)
    if file.url is not None:
        return RedirectResponse(file.url, 302)
    raise not_found(f"the file `{file.name}` is not on this server any more", "no_content")
