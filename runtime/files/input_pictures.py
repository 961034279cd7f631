"""Pictures and clips that a request gives: files, URLs, PIL images, arrays. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files.image_files import check_image, flatten_on_white, read_image, rgb_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES = 100 * 2**20
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
ACCEPTED = "a picture: the path of a file, an http(s) URL, or from Python a PIL image or an array"


def check_picture(value: Any) -> Any:
    """The value as later stages take it; a UserError where it cannot be a picture.

    Files are opened as far as their header; URLs are looked at, not fetched.
    """
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _check_array(value)
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UserError(f"expects {ACCEPTED}", help="give the path of a picture")
    text = os.fspath(value)
    if is_url(text):
        from runtime.files.safe_fetch import check_url

        check_url(text)
        return str(text)
    path = Path(text).expanduser()
    check_image(path)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{text} is larger than {MAX_BYTES // 2**20} MB", help="give a smaller picture"
        )
    return str(text)


def read_picture(value: Any, shown: str, field: str) -> NDArray[np.uint8]:
    """The pixels of a checked value, `h w 3`: upright, grey as RGB, transparency on white.

    shown, field  how messages name what gave the picture, and the field

    A URL comes from this computer's own user here, who may reach their own network.
    """
    import numpy as np
    from PIL import Image

    try:
        if isinstance(value, Image.Image):
            return rgb_pixels(value)
        if not isinstance(value, str):
            array = np.asarray(value)
            return rgb_pixels(Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array))
        if not is_url(value):
            return _from_file(Path(value).expanduser())
        from runtime.files.safe_fetch import fetch

        with TemporaryDirectory(prefix="sglang-picture-") as folder:
            return _from_file(fetch(value, Path(folder), max_bytes=MAX_BYTES, allow_private=True))
    except UserError as problem:
        raise UserError(f"{shown}: {problem.message}", help=problem.help, field=field) from problem


def is_url(text: str) -> bool:
    """Whether text is a URL rather than a path; a UserError where nothing fetches its kind."""
    found = SCHEME.match(text)
    if found and found[1].lower() not in {"http", "https"}:
        raise UserError(
            f"{found[1]}:// is not fetched", help="give a file, or an http:// or https:// URL"
        )
    return bool(found)


def _from_file(path: Path) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    return np.array(flatten_on_white(Image.fromarray(read_image(path))))


def _check_array(value: Any) -> Any:
    shape, dtype = tuple(value.shape), str(value.dtype)
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in {2, 3} or 0 in shape or channels not in {1, 3, 4} or dtype != "uint8":
        raise UserError(
            f"an array has axes h w or h w c (c is 1, 3 or 4) and is uint8, "
            f"got {' x '.join(map(str, shape))} {dtype}",
            help="scale it to 0..255 and convert it: .astype('uint8')",
        )
    return value


def check_clip(value: Any) -> Any:
    """The same for a clip: the path of a file, a URL, or from Python an array f h w 3, uint8."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        shape, dtype = tuple(value.shape), str(value.dtype)
        if len(shape) != 4 or shape[3] != 3 or 0 in shape or dtype != "uint8":
            raise UserError(
                f"a clip has axes f h w 3 and is uint8, got {' x '.join(map(str, shape))} {dtype}",
                help="scale it to 0..255 and convert it: .astype('uint8')",
            )
        return value
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UserError(
            "expects a clip: the path of a file, an http(s) URL, or from Python an array",
            help="give the path of a clip",
        )
    text = os.fspath(value)
    if is_url(text):
        from runtime.files.safe_fetch import check_url

        check_url(text)
    elif not Path(text).expanduser().is_file():
        raise UserError(f"there is no file {text}", help="give the path of an MP4, WebP or GIF")
    elif Path(text).expanduser().stat().st_size > MAX_BYTES:
        raise UserError(
            f"{text} is larger than {MAX_BYTES // 2**20} MB", help="give a shorter clip"
        )
    return str(text)


def read_clip(value: Any, shown: str, field: str) -> tuple[NDArray[np.uint8], float]:
    """Frames of a checked clip, `f h w 3`, and frames per second (0 where an array has none)."""
    import numpy as np

    from runtime.files.video_files import read_video

    try:
        if not isinstance(value, str):
            return np.asarray(value), 0.0
        if not is_url(value):
            return read_video(Path(value).expanduser())
        from runtime.files.safe_fetch import fetch

        with TemporaryDirectory(prefix="sglang-clip-") as folder:
            return read_video(fetch(value, Path(folder), max_bytes=MAX_BYTES, allow_private=True))
    except UserError as problem:
        raise UserError(f"{shown}: {problem.message}", help=problem.help, field=field) from problem
