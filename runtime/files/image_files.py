"""Picture files, and the format and quality rules that all media files share. No torch."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError, did_you_mean
from runtime.files import embedded_text
from runtime.files.atomic_write import atomic_write
from runtime.files.embedded_text import Metadata, text_of
from runtime.files.image_decode import flatten_on_white, open_image, srgb
from runtime.files.image_formats import IMAGE_FORMATS, ImageFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
VIDEO_TYPES = {".mp4": "video/mp4", ".gif": "image/gif", ".webp": "image/webp"}
MEDIA_TYPES = IMAGE_TYPES | VIDEO_TYPES | {".npy": "application/octet-stream"}
LONGEST_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500, ".gif": 65535, ".mp4": 16384}
QUALITIES = {"low": 35, "medium": 55, "high": 90, "maximum": 100}
# Level 2 takes a third of the time of the usual level 6; files are up to a quarter larger.
PNG_LEVEL = 2


def media_suffixes(frames: int | None = None) -> tuple[str, ...]:
    """File suffixes that can hold this many frames; without a number, all that can be written."""
    if frames is not None and frames > 1:
        return tuple(VIDEO_TYPES)
    return tuple(dict.fromkeys((*IMAGE_TYPES, *VIDEO_TYPES)))


def default_suffix(frames: int) -> str:
    """The suffix used when the user names none: `.png` for one frame, else `.mp4`."""
    return ".png" if frames == 1 else ".mp4"


def check_suffix(suffix: str, frames: int, fps: float | None = None) -> None:
    """Raise a UserError if files with this suffix cannot hold the frames or the frame rate."""
    fitting = media_suffixes(frames)
    if suffix.lower() not in fitting:
        known = suffix.lower() in media_suffixes()
        what = "a picture" if frames == 1 else f"{frames} frames"
        reason = f"cannot hold {what}" if known else "is not a format for pictures or clips"
        raise UserError(
            f'`output.file_name` ends in "{suffix}", which {reason}',
            help=f"{what} can be saved as {', '.join(fitting)}",
            field="output.file_name",
        )
    if suffix.lower() == ".gif" and frames > 1 and fps is not None and fps > 50:
        raise UserError(
            f"`request.fps` is {fps:g}, but browsers play GIF at 50 frames per second at most",
            help="save as .mp4 or .webp, or ask for fewer frames per second",
            field="request.fps",
        )


def check_size(suffix: str, height: int, width: int) -> None:
    """Raise a UserError if a side is longer than the format allows."""
    longest = LONGEST_SIDE.get(suffix.lower())
    if longest is not None and max(height, width) > longest:
        raise UserError(
            f"{suffix} files hold at most {longest} pixels a side, got {width}x{height}",
            help="save as .png, or ask for a smaller size",
            field="output.file_name",
        )


def quality_percent(quality: str, compression: int | None, default: int) -> int:
    """Encoder quality from 0 to 100: `compression` if given, else the named `quality`.

    default  quality of the name `default`, which depends on the format
    """
    if compression is not None:
        if not 0 <= compression <= 100:
            raise UserError(
                f"`output.compression` expects a whole number from 0 to 100, got {compression}",
                help="0 is the smallest file, 100 the best",
                field="output.compression",
            )
        return compression
    words = {"default": default, **QUALITIES}
    if quality not in words:
        raise UserError(
            f'`output.quality` expects one of {", ".join(words)}, got "{quality}"',
            help=did_you_mean(quality, words),
            field="output.quality",
        )
    return words[quality]


def to_numpy(pixels: Any) -> NDArray[np.uint8]:
    """Convert a uint8 tensor or array to a NumPy array, without a copy if it is in host memory."""
    import numpy as np

    array = np.asarray(pixels.cpu().numpy() if hasattr(pixels, "numpy") else pixels)
    if array.dtype != np.uint8:
        raise TypeError(f"pixels must be uint8, got {array.dtype}")
    return array


def write_image(
    pixels: object,
    path: Path,
    *,
    quality: str = "default",
    compression: int | None = None,
    metadata: str = "",
) -> None:
    """Write a picture as PNG, JPEG or WebP, chosen by suffix.

    pixels       h w c  uint8, c is 1, 3 or 4; JPEG has no alpha: transparent parts become white
    compression  0 to 100, overrides quality; PNG is lossless at every value
    metadata     ASCII text to embed in the file
    """
    from PIL import Image

    suffix = path.suffix.lower()
    if suffix not in IMAGE_TYPES:
        raise ValueError(f"{path} is not a picture: its suffix is none of {', '.join(IMAGE_TYPES)}")
    array = to_numpy(pixels)
    check_size(suffix, *array.shape[:2])
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    percent = quality_percent(quality, compression, 75)
    options: dict[str, Any] = {"format": IMAGE_TYPES[suffix].removeprefix("image/")}
    if suffix == ".png":
        chosen = compression is not None or quality != "default"
        options["compress_level"] = round(percent / 100 * 9) if chosen else PNG_LEVEL
    else:
        options["quality"] = percent
    if suffix in {".jpg", ".jpeg"}:
        image = flatten_on_white(image)
        if percent >= 90:
            options["subsampling"] = 0  # chroma subsampling would be the first visible loss
    encoded = BytesIO()  # Pillow ignores short writes to a file
    text_options = embedded_text.save_options(suffix, metadata)
    image.save(encoded, **options, **text_options)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    embedded_text.write_sidecar(path, "" if text_options else metadata)


def write_frames(frames: Any, path: Path, *, metadata: Metadata = "") -> None:
    """Write raw frames as `.npy`, one at a time.

    frames    f h w c  uint8, a tensor on any device or an array
    metadata  ASCII text for the sidecar file; a function is asked when the frames are written
    """
    import numpy as np

    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(frames.shape)}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for frame in frames:
            file.write(np.ascontiguousarray(to_numpy(frame)).data)
    embedded_text.write_sidecar(path, text_of(metadata))


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture upright in sRGB, `h w c`, uint8: RGB, or RGBA if it has transparency."""
    import numpy as np

    with open_image(path) as image:
        return np.asarray(srgb(image))


def check_image(path: Path, label: str = "") -> ImageFormat:
    """The format of a picture, from its header alone; UserError if it is not a picture.

    Damage further in is found when the pixels are read.

    label  names the picture in messages; the path if empty
    """
    with open_image(path, label) as image:
        image.verify()
        return IMAGE_FORMATS[str(image.format)]
