"""Pictures that requests bring: uploads, URLs and data URLs, checked and stored as files."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from starlette.datastructures import UploadFile

from runtime import UserError
from runtime.files.atomic_write import atomic_write
from runtime.files.data_url import (
    bare_base64_error,
    data_url_bytes,
    is_bare_base64,
    is_data_url,
)
from runtime.files.image_decode import open_image, srgb
from runtime.files.image_formats import IMAGE_FORMATS
from runtime.files.safe_fetch import PICTURE, MediaKind, fetch
from runtime.settings.policies import Server
from server.errors import ApiError, bad_request, from_user_error
from server.storage_errors import DISK_FULL, is_disk_full

UploadSource = UploadFile | str
INVALID_IMAGE = "invalid_image"


async def store_pictures(
    name: str, sources: Sequence[tuple[str, UploadSource]], folder: Path, policy: Server
) -> list[Path]:
    """Check pictures and store them as `{name}_{n}{suffix}`; if one is refused, none is stored.

    sources  of each picture the request's field, for messages, and where its bytes come from
    """
    paths: list[Path] = []
    try:
        for n, (param, source) in enumerate(sources):
            data = await upload_bytes(param, source, folder, policy)
            path = await asyncio.to_thread(_store, f"{name}_{n}", param, data, folder, policy)
            paths.append(path)
    except BaseException:
        delete_pictures(paths)
        raise
    return paths


def delete_pictures(paths: Sequence[Path]) -> None:
    """Delete the stored pictures of a request that was not accepted."""
    for path in paths:
        path.unlink(missing_ok=True)


async def upload_bytes(
    param: str, source: UploadSource, folder: Path, policy: Server, wanted: MediaKind = PICTURE
) -> bytes:
    """The bytes of an upload, a data URL or a public URL, up to the largest size allowed."""
    most = policy.max_upload_mb << 20
    if isinstance(source, UploadFile):
        if (source.size or 0) > most:
            raise _too_large(param, policy)
        return await source.read()
    if is_data_url(source):
        data = await asyncio.to_thread(_from_data_url, param, source)
        if len(data) > most:
            raise _too_large(param, policy)
        return data
    if is_bare_base64(source):
        raise from_user_error(bare_base64_error(f"`{param}`"), param)
    return await asyncio.to_thread(_fetched, param, source, folder, most, wanted)


def _too_large(param: str, policy: Server) -> ApiError:
    message = f"`{param}` is larger than {policy.max_upload_mb} MB"
    return ApiError(413, message, param=param, code="request_too_large")


def _from_data_url(param: str, url: str) -> bytes:
    try:
        return data_url_bytes(url, f"`{param}`")
    except UserError as problem:
        raise from_user_error(problem, param) from None


def _fetched(param: str, url: str, folder: Path, most: int, wanted: MediaKind) -> bytes:
    """The bytes behind a public URL; the folder is empty again afterwards."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as place:
        try:
            return fetch(url, Path(place), max_bytes=most, wanted=wanted).read_bytes()
        except UserError as problem:
            named = UserError(f"`{param}`: {problem.message}", help=problem.help)
            raise from_user_error(named, param) from None


def _store(name: str, param: str, data: bytes, folder: Path, policy: Server) -> Path:
    """Check the content of a picture, not its name or media type, and write it to a file."""
    path = folder / f"{name}{_suffix(param, data, policy)}"
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    except UserError as problem:
        if is_disk_full(problem):
            raise ApiError(507, DISK_FULL, code="disk_full") from problem
        raise ApiError(500, "the upload could not be stored", code="storage_error") from problem
    return path


def _suffix(param: str, data: bytes, policy: Server) -> str:
    """The suffix of a picture that can be decoded to its last pixel; else a 400 that says why."""
    try:
        with open_image(BytesIO(data), f"`{param}`") as image:
            width, height = image.size
            if width * height > policy.max_upload_pixels:
                most = policy.max_upload_pixels
                raise bad_request(
                    f"`{param}` has {width}x{height} pixels; {most} are the most that this server "
                    "reads; send a smaller picture",
                    param,
                )
            srgb(image)
            return IMAGE_FORMATS[str(image.format)].suffix
    except UserError as problem:
        message = f"{problem.message}; {problem.help}" if problem.help else problem.message
        raise bad_request(message, param, INVALID_IMAGE) from None
