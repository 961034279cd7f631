"""Clips of requests: checked by their content, before they are stored for an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image

from runtime.files.image_formats import DECODE_ERRORS
from runtime.files.safe_fetch import CLIP
from runtime.settings.policies import Server
from server.errors import bad_request
from server.input_files import UploadSource, delete_pictures, upload_bytes

INVALID_VIDEO = "invalid_video"
CLIP_FORMATS = "MP4, MOV, WebM, MKV, AVI, GIF or animated WebP"
SNIFFED_BYTES = 4096


async def store_clips(
    name: str, uploads: Sequence[tuple[str, UploadSource]], folder: Path, policy: Server
) -> list[Path]:
    """Check clips and store them as `{name}_clip{n}{suffix}`; if one is refused, none is stored."""
    stored: list[Path] = []
    try:
        for n, (param, source) in enumerate(uploads):
            data = await upload_bytes(param, source, folder, policy, CLIP)
            temporary = folder / f"{name}_clip{n}"
            stored.append(temporary)
            stored[-1] = await asyncio.to_thread(_store, temporary, data, param, policy)
    except BaseException:
        delete_pictures(stored)
        raise
    return stored


def _store(path: Path, data: bytes, param: str, policy: Server) -> Path:
    path.write_bytes(data)
    return path.rename(path.with_name(path.name + clip_suffix(param, path, policy)))


def clip_suffix(param: str, path: Path, policy: Server) -> str:
    """The suffix of a clip by its content; an ApiError where it is none that can be decoded.

    FFmpeg is told the format: it also knows playlists, which would make it open other files.
    """
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    suffix, demuxer = _format(head)
    if not head:
        raise bad_request(f"`{param}` is empty", param, INVALID_VIDEO)
    if not suffix:
        raise bad_request(f"`{param}` is not a clip; send {CLIP_FORMATS}", param, INVALID_VIDEO)
    try:
        width, height = _size(path, demuxer)
    except (*DECODE_ERRORS, av.error.FFmpegError, Image.DecompressionBombError) as problem:
        reason = str(problem).replace(str(path), param)
        raise bad_request(f"`{param}` is damaged: {reason}", param, INVALID_VIDEO) from None
    if width * height > policy.max_pixels:
        most = f"{policy.max_pixels} are the most"
        raise bad_request(f"`{param}` has {width}x{height} pixels; {most}", param, INVALID_VIDEO)
    return suffix


def _format(head: bytes) -> tuple[str, str]:
    """Suffix and FFmpeg demuxer by the first bytes of a file; empty where it is no clip."""
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide"}:
        return (".mov" if head[8:12] == b"qt  " else ".mp4"), "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return (".webm" if b"webm" in head[:64] else ".mkv"), "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return ".avi", "avi"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return ".gif", ""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and b"ANIM" in head:
        return ".webp", ""
    return "", ""


def _size(path: Path, demuxer: str) -> tuple[int, int]:
    """Width and height of the first frame, which is decoded."""
    if not demuxer:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            image.load()
            return image.size
    with av.open(str(path), format=demuxer) as file:
        if not file.streams.video:
            raise ValueError("it has no video track")
        for frame in file.decode(video=0):
            return frame.width, frame.height
    raise ValueError("it has no frames")
