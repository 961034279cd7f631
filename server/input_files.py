"""Pictures that requests bring: uploads, URLs and data URLs, checked and kept as files."""

from __future__ import annotations

import asyncio
import base64
import binascii
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile

from runtime import UserError
from runtime.files.atomic_write import atomic_write
from runtime.files.image_files import DECODE_ERRORS
from runtime.files.safe_fetch import fetch
from runtime.settings.policies import Server
from server.errors import ApiError, bad_request, from_user_error
from server.storage_errors import DISK_FULL, is_disk_full

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
Source = UploadFile | str


async def keep(
    name: str, sources: Sequence[tuple[str, Source]], folder: Path, policy: Server
) -> list[Path]:
    """Check pictures and keep them as `{name}_{n}{suffix}`; all of them, or none.

    sources  the request's field, for messages, and what it holds
    """
    kept: list[Path] = []
    try:
        for n, (param, source) in enumerate(sources):
            data = await upload_bytes(param, source, folder, policy)
            kept.append(await asyncio.to_thread(_keep, f"{name}_{n}", param, data, folder, policy))
    except BaseException:
        discard(kept)
        raise
    return kept


def discard(paths: Sequence[Path]) -> None:
    """Remove kept pictures of a request that was not accepted."""
    for path in paths:
        path.unlink(missing_ok=True)


async def upload_bytes(param: str, source: Source, folder: Path, policy: Server) -> bytes:
    """The bytes of an upload, a data URL or a public URL, up to the largest size allowed."""
    most = policy.max_upload_mb << 20
    if isinstance(source, UploadFile):
        if (source.size or 0) > most:
            raise ApiError(
                413, f"`{param}` is larger than {policy.max_upload_mb} MB", param=param,
                code="request_too_large",
            )  # fmt: skip
        return await source.read()
    if source.startswith("data:"):
        return _data_url(param, source)
    return await asyncio.to_thread(_fetched, param, source, folder, most)


def _data_url(param: str, url: str) -> bytes:
    head, comma, data = url.partition(",")
    try:
        if not comma:
            raise ValueError
        encoded = unquote_to_bytes(data)
        return base64.b64decode(encoded, validate=True) if head.endswith(";base64") else encoded
    except (binascii.Error, ValueError):
        raise bad_request(f"`{param}` is a damaged data URL", param) from None


def _fetched(param: str, url: str, folder: Path, most: int) -> bytes:
    """The bytes behind a public URL; nothing of it stays in the folder."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as place:
        try:
            return fetch(url, Path(place), max_bytes=most).read_bytes()
        except UserError as problem:
            raise from_user_error(
                UserError(f"`{param}`: {problem.message}", help=problem.help), param
            ) from None


def _keep(name: str, param: str, data: bytes, folder: Path, policy: Server) -> Path:
    """Look at the content, never at a name, then write it whole."""
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
    try:
        with Image.open(BytesIO(data), formats=tuple(SUFFIXES)) as image:
            width, height = image.size
            if width * height > policy.max_pixels:
                raise bad_request(
                    f"`{param}` has {width}x{height} pixels; {policy.max_pixels} are the most",
                    param,
                )
            image.load()
            return SUFFIXES[str(image.format)]
    except UnidentifiedImageError:
        known = ", ".join(SUFFIXES)
        raise bad_request(
            f"`{param}` is no picture; send one of {known}", param, "invalid_image"
        ) from None
    except Image.DecompressionBombError:
        raise bad_request(f"`{param}` has too many pixels", param, "invalid_image") from None
    except DECODE_ERRORS as problem:
        raise bad_request(f"`{param}` is damaged: {problem}", param, "invalid_image") from None
