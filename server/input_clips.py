"""Clips of requests: checked by their content, before they are stored for an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from runtime import UserError
from runtime.files.safe_fetch import CLIP
from runtime.files.video_files import check_video
from runtime.settings.policies import Server
from server.errors import bad_request
from server.input_files import UploadSource, delete_pictures, upload_bytes
from server.parameter_names import message_of

INVALID_VIDEO = "invalid_video"


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
    """The suffix of a clip by its content; an ApiError where it is none that can be decoded."""
    if not path.stat().st_size:
        raise bad_request(f"`{param}` is empty", param, INVALID_VIDEO)
    try:
        return check_video(path, f"`{param}`", max_pixels=policy.max_pixels)
    except UserError as problem:
        raise bad_request(message_of(problem), param, INVALID_VIDEO) from None
