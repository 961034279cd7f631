"""Responses that send the file of a job, and the URLs of such files."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from server.byte_ranges import RangeNotSatisfiable, valid_range
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


def content_disposition(request: Request) -> str:
    """`inline`, so that browsers show the file; `attachment` with the query `download=1`."""
    value = query_value(request, "download", "0").lower()
    if value not in {"", "0", "1", "true", "false"}:
        raise bad_request(f'`download` expects 1 or 0, got "{value[:60]}"', "download")
    return "attachment" if value in {"1", "true"} else "inline"


def query_value(request: Request, name: str, default: str) -> str:
    """A query parameter that may be given once."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise bad_request(f"`{name}` is given {len(values)} times", name)
    return values[0] if values else default


def _check_range(request: Request, response: FileResponse) -> None:
    """Remove a `Range` header that is to be ignored; a 416 where no range is inside the file."""
    header = request.headers.get("range")
    if header is None:
        return
    size = int(response.headers["content-length"])
    condition = request.headers.get("if-range")
    current = condition in {None, response.headers["etag"], response.headers["last-modified"]}
    try:
        found = valid_range(header, size) if current and request.method == "GET" else None
    except RangeNotSatisfiable:
        headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        raise ApiError(
            416, f"the range lies outside the file of {size} bytes", param="Range",
            code="range_not_satisfiable", headers=headers,
        ) from None  # fmt: skip
    # Starlette answers 400 to malformed ranges: it gets a valid header, or none.
    others = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    request.scope["headers"] = others + ([(b"range", found.encode())] if found else [])


def local_path(folder: Path, file: StoredFile) -> Path | None:
    """The local file, if it is there. Names are made from ids; one that is a path is refused."""
    if Path(file.name).name != file.name or file.name in {"", ".", ".."}:
        raise ApiError(500, "a stored file has no plain name", code="internal_error")
    path = folder / file.name
    return path if path.is_file() else None


def file_response(request: Request, folder: Path, file: StoredFile) -> Response:
    """The file, with byte ranges; a redirect where only the object store has it."""
    disposition = content_disposition(request)
    path = local_path(folder, file)
    if path is not None:
        response = FileResponse(
            path, media_type=file.media_type, filename=file.name, stat_result=path.stat(),
            content_disposition_type=disposition,
        )  # fmt: skip
        _check_range(request, response)
        return response
    if file.url is not None:
        return RedirectResponse(file.url, 302)
    raise not_found(f"the file `{file.name}` is not on this server any more", "no_content")
