"""Saving: pictures, clips and raw frames as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runtime import media as files
from runtime.errors import UserError
from runtime.output import Destination, File
from runtime.values import Image, Video
from runtime.video import write_video


@dataclass(frozen=True, kw_only=True)
class SaveMedia:
    """Save a picture or a clip, encoded.

    media  h w c or f h w c  uint8; a single frame is a picture unless the suffix is a clip's
    to     where and how; without a suffix a picture is a PNG and a clip an MP4
    file   written whole, in the folder of `to`
    """

    class Out(NamedTuple):
        file: File

    def run(self, *, media: Image | Video, to: Destination) -> Out:
        frames = media.frames if isinstance(media, Video) else media.pixels[None]
        fps = media.fps if isinstance(media, Video) else 1.0  # a picture as a clip lasts a second
        suffix = to.suffix or files.default_suffix(len(frames))
        files.check_suffix(suffix, len(frames), fps)
        path = inside(to, suffix)
        if len(frames) == 1 and suffix.lower() in files.PICTURES:
            files.write_image(frames[0], path, quality=to.quality, compression=to.compression)
        else:
            write_video(
                frames,
                path,
                fps=fps,
                quality=to.quality,
                compression=to.compression,
                preset=to.x264_preset,
            )
        return self.Out(written(path))


@dataclass(frozen=True, kw_only=True)
class SaveFrames:
    """Save raw frames as `.npy`, whatever suffix `to` names.

    media  h w c or f h w c  uint8
    to     where; a picture is saved as a single frame
    file   an array f h w c, uint8, written whole
    """

    class Out(NamedTuple):
        file: File

    def run(self, *, media: Image | Video, to: Destination) -> Out:
        path = inside(to, ".npy")
        frames = media.frames if isinstance(media, Video) else media.pixels[None]
        files.write_frames(frames, path)
        return self.Out(written(path))


def inside(to: Destination, suffix: str) -> Path:
    """The path of the file, which is never outside the folder of `to`."""
    name = to.name + suffix
    if to.name in {"", ".", ".."} or Path(name).name != name or "\0" in name or "\\" in name:
        raise UserError(
            f'`output_file_name` is "{name}", which is no plain file name',
            help="give a name without folders; the folder goes into `output_path`",
            field="output_file_name",
        )
    return to.folder / name


def written(path: Path) -> File:
    """The file as later nodes and the run's report know it."""
    return File(path, files.MEDIA_TYPES[path.suffix.lower()], path.stat().st_size)
