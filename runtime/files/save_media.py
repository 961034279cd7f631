"""Write a picture or a clip that is in memory as a file, its format by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files.image_files import IMAGE_TYPES, check_suffix, write_frames, write_image
from runtime.files.video_files import write_video


def save_media(media: Any, path: Path) -> Path:
    """Write an `Image` or a `Video` of runtime.contract; a UserError where the format cannot.

    A single frame is written as a picture, unless the suffix is that of a clip; it then lasts a
    second. `.npy` takes the raw frames.
    """
    frames = media.frames if hasattr(media, "frames") else media.pixels[None]
    fps = media.fps if len(frames) > 1 else 1.0
    suffix = path.suffix.lower()
    if not suffix:
        raise UserError(f"`{path}` has no suffix", help="name the format: x.png, x.mp4, x.webp")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npy":
        write_frames(frames, path)
        return path
    check_suffix(suffix, len(frames), fps)
    if len(frames) == 1 and suffix in IMAGE_TYPES:
        write_image(frames[0], path)
    else:
        write_video(frames, path, fps=fps)
    return path


def frame_picture(media: Any, index: int = 0) -> Any:
    """A frame as a PIL image: RGB, RGBA or grey as the pixels are."""
    import PIL.Image

    pixels = media.frames[index] if hasattr(media, "frames") else media.pixels
    grey = pixels.shape[-1] == 1
    return PIL.Image.fromarray((pixels[..., 0] if grey else pixels).cpu().numpy())
