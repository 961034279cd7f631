"""Pictures to 8-bit sRGB: orientation, bit depth, colour profile, alpha. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files.content_type import HEAD_BYTES
from runtime.files.image_formats import DECODE_ERRORS, not_a_picture, readable_formats

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsProfile

# ICC colour spaces and the modes of pictures that a profile of that space describes.
PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
SAME_COLOUR = 2  # levels of 255 by which a profile may differ from sRGB and still be called sRGB


@contextmanager
def open_image(source: Path | BytesIO, label: str = "") -> Iterator[Image]:
    """An open picture; whatever is wrong with it, here or in the block, is a UserError.

    label  names the picture in messages; the path if empty
    """
    from PIL import Image, UnidentifiedImageError

    label = label or str(source)
    try:
        head = _head(source, label)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures and harmless faults in metadata
            with Image.open(source, formats=readable_formats()) as image:
                yield image
    except PermissionError as problem:
        raise UserError(
            f"{label} may not be read: permission denied", help="allow reading it"
        ) from problem
    except Image.DecompressionBombError as problem:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"{label} has too many pixels; {most // 10**6} million are the most",
            help="give a smaller picture",
        ) from problem
    except UnidentifiedImageError as problem:
        raise not_a_picture(label, head) from problem
    except UnusableLevels as problem:
        raise UserError(
            f"{label} {problem}", help="scale them to 0..1, or save the picture with 8 bits"
        ) from problem
    except DECODE_ERRORS as problem:
        raise UserError(
            f"{label} is damaged: {str(problem) or type(problem).__name__}",
            help="save or download the picture again",
        ) from problem


def _head(source: Path | BytesIO, label: str) -> bytes:
    if isinstance(source, BytesIO):
        return source.getvalue()[:HEAD_BYTES]
    if not source.is_file():
        exists = "is not a file" if source.exists() else "does not exist"
        reason = "is a folder, not a picture" if source.is_dir() else exists
        raise UserError(f"{label} {reason}", help="give the path of a picture")
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


class UnusableLevels(Exception):
    """A picture has numbers that cannot be scaled to colours; the message goes after its name."""


def flatten_on_white(image: Image) -> Image:
    """Composite an RGBA picture on white; pictures without alpha are returned unchanged."""
    from PIL import Image

    if image.mode != "RGBA":
        return image
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def srgb(image: Image) -> Image:
    """The picture upright in 8-bit sRGB: mode RGB, or RGBA if it has transparency.

    Of a file with several frames or pages it is the first. A damaged colour profile or orientation
    is ignored, as browsers do. Raises UnusableLevels for floats outside of the usual ranges.
    """
    from PIL import Image, ImageOps

    image.load()
    profile = image.info.get("icc_profile")
    with suppress(*DECODE_ERRORS):  # damaged Exif data
        image = ImageOps.exif_transpose(image)
    image, alpha = _eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        if image.mode not in {"L", "RGB", "CMYK"}:
            image = with_alpha.convert("L" if image.mode in {"LA", "La"} else "RGB")
    image = _apply_profile(image, profile)
    if image.mode == "LAB":
        image = _lab_to_srgb(image)
    rgb = image.convert("RGB")
    if alpha is None:
        return rgb
    return Image.merge("RGBA", (*rgb.split(), alpha))


def rgb_pixels(image: Image, *, alpha: bool = False) -> NDArray[np.uint8]:
    """The pixels of a picture, `h w 3`: upright, in sRGB, transparent parts on white.

    alpha  keep transparency, if there is any, as `h w 4`
    """
    import numpy as np

    upright = srgb(image)
    return np.array(upright if alpha else flatten_on_white(upright))


def _eight_bits(image: Image) -> tuple[Image, Image | None]:
    """A picture of 16 or 32 bits or of floats, scaled to 8 bits; and its alpha, if known.

    Pillow's own conversion clips such values at 255 instead of scaling them.
    """
    from PIL import Image

    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        # A 16-bit PNG: Pillow keeps the high bytes of the pixels and all of the transparent colour.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if not image.mode.startswith(("I", "F")):
        return image, None
    values = _float_levels(image) if image.mode == "F" else _integer_levels(image)
    alpha = None
    if isinstance(transparent, int):
        alpha = _transparent_level(image, transparent)
    return Image.fromarray(values), alpha


def _transparent_level(image: Image, level: int) -> Image:
    import numpy as np
    from PIL import Image

    opaque = np.asarray(image) != level
    return Image.fromarray(opaque.astype(np.uint8) * 255)


def _integer_levels(image: Image) -> NDArray[np.uint8]:
    """Grey levels of 16 bits, or of 32 bits if any value needs them, as 8 bits."""
    import numpy as np

    levels: NDArray[Any] = np.asarray(image)
    if levels.dtype == np.int32 and levels.size and levels.min() < 0:
        levels = levels.view(np.uint32)  # Pillow has no unsigned mode
    most = int(levels.max(initial=0))
    top = 65535 if most <= 65535 else 2**31 - 1 if most < 2**31 else 2**32 - 1
    scaled: NDArray[np.uint8] = np.rint(levels.astype(np.float64) * (255 / top)).astype(np.uint8)
    return scaled


def _float_levels(image: Image) -> NDArray[np.uint8]:
    """Grey levels as floats from 0 to 1, or in the range of 8 or 16 bits, as 8 bits."""
    import numpy as np

    levels = np.asarray(image, dtype=np.float64)
    low, high = (float(levels.min()), float(levels.max())) if levels.size else (0.0, 0.0)
    # From 1 to 16 nobody can tell a bright 0..1 (HDR) from a dark 0..255.
    top = 1.0 if high <= 1 else 255.0 if 16 <= high <= 255 else 65535.0
    if not (low >= 0 and (high <= 1 or 16 <= high <= 65535)):
        raise UnusableLevels(f"has floating point values from {low:g} to {high:g}")
    scaled: NDArray[np.uint8] = np.rint(levels * (255 / top)).astype(np.uint8)
    return scaled


def _apply_profile(image: Image, data: object) -> Image:
    """The picture in sRGB if an ICC profile says that its colours are in another space."""
    from PIL import ImageCms

    if not isinstance(data, bytes) or not data:
        return image
    with suppress(ImageCms.PyCMSError, *DECODE_ERRORS):
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        mode = PROFILE_MODES.get(profile.profile.xcolor_space)
        source = image.convert("RGB") if mode == "RGB" and image.mode == "P" else image
        if mode is None or source.mode != mode or _is_srgb(profile, mode):
            return image
        converted = ImageCms.profileToProfile(
            source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        return converted or image
    return image


def _is_srgb(profile: ImageCmsProfile, mode: str) -> bool:
    """Whether a profile changes no colour visibly: then the pixels stay exactly as they are."""
    import numpy as np
    from PIL import Image, ImageCms

    if mode == "CMYK":
        return False
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    if mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))
    found = ImageCms.profileToProfile(
        probe, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    difference = np.abs(np.asarray(found, np.int16) - np.asarray(probe.convert("RGB"), np.int16))
    return bool(difference.max() <= SAME_COLOUR)


def _lab_to_srgb(image: Image) -> Image:
    from PIL import ImageCms

    lab, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, target, outputMode="RGB")
    assert converted is not None
    return converted
