"""Pictures in files, and what all media files share: formats and quality. Imports no torch."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError, did_you_mean
from runtime.files import embedded_text as carried
from runtime.files.atomic_write import whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
CLIPS = {".mp4": "video/mp4", ".gif": "image/gif", ".webp": "image/webp"}
# What is read. Pillow knows more formats, but some start programs (EPS), others are hardly tested.
READABLE = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MEDIA_TYPES = PICTURES | CLIPS | {".npy": "application/octet-stream"}
LONGEST_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500, ".gif": 65535, ".mp4": 16384}
QUALITIES = {"low": 35, "medium": 55, "high": 90, "maximum": 100}
# A third of the time of zlib's usual level for files up to a quarter larger.
PNG_LEVEL = 2
# What Pillow and FFmpeg raise on damaged files; found by changing bytes at random.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError, struct.error)


def media_suffixes(frames: int | None = None) -> tuple[str, ...]:
    """Suffixes of files that can hold so many frames; none: every suffix that can be written."""
    if frames is not None and frames > 1:
        return tuple(CLIPS)
    return tuple(dict.fromkeys((*PICTURES, *CLIPS)))


def default_suffix(frames: int) -> str:
    """What a result of so many frames is saved as where nothing is asked: `.png` or `.mp4`."""
    return ".png" if frames == 1 else ".mp4"


def check_suffix(suffix: str, frames: int, fps: float | None = None) -> None:
    """Refuse a suffix that cannot hold so many frames, at that rate where it is known."""
    fitting = media_suffixes(frames)
    if suffix.lower() not in fitting:
        known = suffix.lower() in media_suffixes()
        what = "a picture" if frames == 1 else f"{frames} frames"
        reason = f"cannot hold {what}" if known else "is no format for pictures or clips"
        raise UserError(
            f'`output_file_name` ends in "{suffix}", which {reason}',
            help=f"{what} can be saved as {', '.join(fitting)}",
            field="output_file_name",
        )
    if suffix.lower() == ".gif" and frames > 1 and fps is not None and fps > 50:
        raise UserError(
            f"`fps` is {fps:g}, but browsers play GIF files at 50 frames per second at most",
            help="save as .mp4 or .webp, or ask for fewer frames per second",
            field="fps",
        )


def check_size(suffix: str, height: int, width: int) -> None:
    """Refuse a picture with a side longer than its format allows."""
    longest = LONGEST_SIDE.get(suffix.lower())
    if longest is not None and max(height, width) > longest:
        raise UserError(
            f"{suffix} files hold at most {longest} pixels a side, got {width}x{height}",
            help="save as .png, or ask for a smaller size",
            field="output_file_name",
        )


def quality_percent(quality: str, compression: int | None, default: int) -> int:
    """Quality from 0 to 100: `compression` where given, else by word; `default` is the format's."""
    if compression is not None:
        if not 0 <= compression <= 100:
            raise UserError(
                f"`output_compression` expects a whole number from 0 to 100, got {compression}",
                help="0 is the smallest file, 100 the best",
                field="output_compression",
            )
        return compression
    words = {"default": default, **QUALITIES}
    if quality not in words:
        raise UserError(
            f'`output_quality` expects one of {", ".join(words)}, got "{quality}"',
            help=did_you_mean(quality, words),
            field="output_quality",
        )
    return words[quality]


def to_numpy(pixels: Any) -> NDArray[np.uint8]:
    """The pixels of a tensor or an array as an array, copied only where they are on a device."""
    import numpy as np

    array = np.asarray(pixels.cpu().numpy() if hasattr(pixels, "numpy") else pixels)
    if array.dtype != np.uint8:
        raise TypeError(f"pixels must be uint8, got {array.dtype}")
    return array


def write_image(
    pixels: Any,
    path: Path,
    *,
    quality: str = "default",
    compression: int | None = None,
    metadata: str = "",
) -> None:
    """Write a picture as PNG, JPEG or WebP, by suffix.

    pixels       h w c  uint8, c is 1, 3 or 4; JPEG shows what is transparent as white
    compression  0 to 100, overrides quality; PNG loses nothing at any of them
    metadata     ASCII text that the file carries
    """
    from PIL import Image

    suffix = path.suffix.lower()
    if suffix not in PICTURES:
        raise ValueError(f"{path} is no picture: its suffix must be one of {', '.join(PICTURES)}")
    array = to_numpy(pixels)
    check_size(suffix, *array.shape[:2])
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    percent = quality_percent(quality, compression, 75)
    options: dict[str, Any] = {"format": PICTURES[suffix].removeprefix("image/")}
    if suffix == ".png":
        asked = compression is not None or quality != "default"
        options["compress_level"] = round(percent / 100 * 9) if asked else PNG_LEVEL
    else:
        options["quality"] = percent
    if suffix in {".jpg", ".jpeg"}:
        image = on_white(image)
        if percent >= 90:
            options["subsampling"] = 0  # halved colour would show before anything else does
    encoded = BytesIO()  # given a file, Pillow takes a write cut short by a full disk for success
    carrying = carried.options(suffix, metadata)
    image.save(encoded, **options, **carrying)
    with whole(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    carried.write_beside(path, "" if carrying else metadata)


def on_white(image: Image) -> Image:
    """The picture without alpha: white shows where it was transparent."""
    from PIL import Image

    if image.mode != "RGBA":
        return image
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def write_frames(frames: Any, path: Path, *, metadata: str = "") -> None:
    """Write raw frames as `.npy`, one at a time.

    frames    f h w c  uint8, a tensor on any device or an array
    metadata  ASCII text for a file beside it
    """
    import numpy as np

    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(frames.shape)}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for frame in frames:
            file.write(np.ascontiguousarray(to_numpy(frame)).data)
    carried.write_beside(path, metadata)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture upright, `h w c`, uint8: RGB, or RGBA where it has transparency."""
    import numpy as np

    with _picture(path) as image:
        return np.asarray(_plain(image))


def check_image(path: Path) -> str:
    """Look at a picture's header alone and return its format (PNG, JPEG, ...); UserError if none.

    Damage further in is found when it is read.
    """
    with _picture(path) as image:
        image.verify()
        return str(image.format)


def rgb(image: Image) -> NDArray[np.uint8]:
    """The pixels of a picture, `h w 3`: upright, grey as RGB, what is transparent on white."""
    import numpy as np

    return np.array(on_white(_plain(image)))


@contextmanager
def _picture(path: Path) -> Iterator[Image]:
    """An open picture; whatever is wrong with the file, here or in the block, is a UserError."""
    from PIL import Image, UnidentifiedImageError

    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            reason = "is a folder, not a picture" if path.is_dir() else what
            raise UserError(f"{path} {reason}", help="give the path of a picture")
        with Image.open(path, formats=READABLE) as image:
            yield image
    except PermissionError as problem:
        raise UserError(
            f"{path} may not be read: permission denied", help="allow reading it"
        ) from problem
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise UserError(
            f"{path} has too many pixels ({problem})", help="give a smaller picture"
        ) from problem
    except UnidentifiedImageError as problem:
        raise UserError(
            f"{path} is no picture of a known format", help="give a PNG, JPEG or WebP file"
        ) from problem
    except DAMAGED as problem:
        raise UserError(
            f"{path} is damaged: {problem}", help="save or download the picture again"
        ) from problem


def _plain(image: Image) -> Image:
    """Upright and in RGB or RGBA, from any mode."""
    import numpy as np
    from PIL import Image, ImageOps

    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip at 255
        deep = np.clip(np.asarray(upright, dtype=np.float64), 0, 65535)
        upright = Image.fromarray(np.rint(deep / 257).astype(np.uint8))
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
