"""Pictures and clips that a request names: files, URLs, data URLs, PIL images, arrays. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files.data_url import (
    bare_base64_error,
    data_url_bytes,
    is_bare_base64,
    is_data_url,
)
from runtime.files.image_decode import UnusableLevels, open_image, rgb_pixels
from runtime.files.image_files import check_image
from runtime.files.image_formats import DECODE_ERRORS
from runtime.files.video_files import check_video, read_video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES = 100 * 2**20
CLIP_SECONDS = 300  # to fetch a clip; a picture has the usual time
SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
PICTURE_SOURCES = (
    "a picture: the path of a file, an http(s) or data URL, or from Python a PIL image or an array"
)
CLIP_SOURCES = "a clip: the path of a file, an http(s) or data URL, or from Python an array"
DATA_URL_LABEL = "the data URL"


def check_picture(value: object) -> object:
    """The value as later stages take it; a UserError if it cannot be a picture.

    Files and data URLs are opened as far as their header; other URLs are parsed, not fetched.
    """
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    if _is_array(value):
        return _check_array(value)
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UserError(f"expects {PICTURE_SOURCES}", help="give the path of a picture")
    text = str(os.fspath(value))
    if is_data_url(text):
        with open_image(BytesIO(_data(text)), DATA_URL_LABEL) as image:
            image.verify()
    elif not _is_checked_url(text):
        path = Path(text).expanduser()
        check_image(path)
        _check_bytes(path.stat().st_size, text, "give a smaller picture")
    return text


def read_picture(
    value: object, label: str, field: str, *, alpha: bool = False
) -> NDArray[np.uint8]:
    """The pixels of a checked value, `h w 3`: upright, in sRGB, transparent parts on white.

    label, field  how messages name what gave the picture, and the field
    alpha         keep transparency, if there is any, as `h w 4`

    A URL comes from this computer's own user here, who may reach their own network.
    """
    with _named(label, field):
        if not isinstance(value, str):
            return _from_memory(value, alpha)
        if is_data_url(value):
            with open_image(BytesIO(_data(value)), DATA_URL_LABEL) as image:
                return rgb_pixels(image, alpha=alpha)
        if not is_url(value):
            with open_image(Path(value).expanduser()) as image:
                return rgb_pixels(image, alpha=alpha)
        from runtime.files.safe_fetch import check_url, fetch

        with TemporaryDirectory(prefix="sglang-picture-") as folder:
            path = fetch(
                value, Path(folder), max_bytes=MAX_BYTES, allow_private=True,
                check=lambda part, name: check_image(part, name).suffix,
            )  # fmt: skip
            with open_image(path, check_url(value)) as image:
                return rgb_pixels(image, alpha=alpha)


def check_clip(value: Any) -> Any:
    """The value as later stages take it; a UserError if it cannot be a clip.

    From Python an array `f h w 3`, uint8, is a clip, too.
    """
    if _is_array(value):
        shape, dtype = tuple(value.shape), _dtype(value)
        if len(shape) != 4 or shape[3] != 3 or 0 in shape or dtype != "uint8":
            raise UserError(
                f"a clip has axes f h w 3 and is uint8, got {' x '.join(map(str, shape))} {dtype}",
                help="scale it to 0..255 and convert it: .astype('uint8')",
            )
        return value
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UserError(f"expects {CLIP_SOURCES}", help="give the path of a clip")
    text = str(os.fspath(value))
    if is_data_url(text):
        _data(text)
    elif not _is_checked_url(text):
        path = Path(text).expanduser()
        check_video(path)
        _check_bytes(path.stat().st_size, text, "give a shorter clip")
    return text


def read_clip(
    value: object,
    label: str,
    field: str,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
) -> tuple[NDArray[np.uint8], float]:
    """The first frames of a checked clip, `f h w 3`, and frames per second (0 of an array).

    label, field  how messages name what gave the clip, and the field
    num_frames    how many at most; later ones are not decoded
    fps           frames per second of the result; None keeps those of the clip
    """
    import numpy as np

    with _named(label, field):
        if not isinstance(value, str):
            return np.asarray(value)[:num_frames], 0.0
        if not is_data_url(value) and not is_url(value):
            return read_video(Path(value).expanduser(), num_frames=num_frames, fps=fps)
        from runtime.files.safe_fetch import CLIP, check_url, fetch

        with TemporaryDirectory(prefix="sglang-clip-") as folder:
            if is_data_url(value):
                path, name = Path(folder) / "clip", DATA_URL_LABEL
                path.write_bytes(_data(value))
            else:
                name = check_url(value)
                path = fetch(
                    value, Path(folder), max_bytes=MAX_BYTES, wanted=CLIP, check=check_video,
                    allow_private=True, timeout_seconds=CLIP_SECONDS,
                )  # fmt: skip
            return read_video(path, name, num_frames=num_frames, fps=fps)


def is_url(text: str) -> bool:
    """Whether text is an http(s) URL rather than a path; UserError for other kinds of URLs."""
    found = SCHEME.match(text)
    if found and found[1].lower() not in {"http", "https"}:
        raise UserError(
            f"{found[1]}:// URLs are not fetched",
            help="give a file, or an http:// or https:// URL",
        )
    return bool(found)


def _is_checked_url(text: str) -> bool:
    """Whether text is a URL that can be fetched; a UserError where it is base64 alone."""
    if is_url(text):
        from runtime.files.safe_fetch import check_url

        check_url(text)
        return True
    if is_bare_base64(text):
        raise bare_base64_error("it")
    return False


def _data(url: str) -> bytes:
    data = data_url_bytes(url, DATA_URL_LABEL)
    _check_bytes(len(data), DATA_URL_LABEL, "give a smaller one")
    return data


def _check_bytes(size: int, label: str, fix: str) -> None:
    if size > MAX_BYTES:
        raise UserError(f"{label} is larger than {MAX_BYTES // 2**20} MB", help=fix)


@contextmanager
def _named(label: str, field: str) -> Iterator[None]:
    """UserErrors from the block say which field they are about."""
    try:
        yield
    except UserError as problem:
        raise UserError(f"{label}: {problem.message}", help=problem.help, field=field) from problem


def _from_memory(value: object, alpha: bool) -> NDArray[np.uint8]:
    """The pixels of a PIL image or an array."""
    import numpy as np
    from PIL import Image

    try:
        if isinstance(value, Image.Image):
            return rgb_pixels(value.copy(), alpha=alpha)
        array = np.asarray(value)
        picture = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
        return rgb_pixels(picture, alpha=alpha)
    except (UnusableLevels, *DECODE_ERRORS) as problem:
        reason = str(problem) if isinstance(problem, UnusableLevels) else f"is damaged: {problem}"
        raise UserError(f"the picture {reason}", help="give an 8-bit picture") from problem


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _check_array(value: Any) -> object:
    shape, dtype = tuple(value.shape), _dtype(value)
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in {2, 3} or 0 in shape or channels not in {1, 3, 4} or dtype != "uint8":
        raise UserError(
            f"an array has axes h w or h w c (c is 1, 3 or 4) and is uint8, "
            f"got {' x '.join(map(str, shape))} {dtype}",
            help="scale it to 0..255 and convert it: .astype('uint8')",
        )
    return value
