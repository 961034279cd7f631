"""Saving: pictures, clips and raw frames as files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from runtime.contract.calls import Again, Asking, gather
from runtime.contract.outputs import Destination, File
from runtime.contract.values import Audio, Image, Video, VideoStream
from runtime.errors import UserError
from runtime.files import image_files as files
from runtime.files.video_files import VideoWriter, write_video


@dataclass(frozen=True, kw_only=True)
class SaveMedia:
    """Save a picture or a clip, encoded.

    media  h w c or f h w c  uint8; a single frame is a picture unless the suffix is a clip's. A
           stream is encoded while it is decoded
    audio  the sound of an MP4, made as long as the clip; other formats leave it out
    to     where and how; without a suffix a picture is a PNG and a clip an MP4
    file   written whole, in the folder of `to`
    """

    class Out(NamedTuple):
        file: File

    def run(
        self,
        *,
        media: Image | Video | VideoStream,
        to: Destination,
        audio: Audio | None = None,
    ) -> Out | Asking[Out]:
        if isinstance(media, VideoStream):
            return self.streamed(media, to, audio)
        frames = media.frames if isinstance(media, Video) else media.pixels[None]
        fps = media.fps if isinstance(media, Video) else 1.0  # a picture as a clip lasts a second
        path = encoded_path(to, len(frames), fps)
        if len(frames) == 1 and path.suffix.lower() in files.PICTURES:
            quality, compression = to.quality, to.compression
            files.write_image(
                frames[0], path, quality=quality, compression=compression, metadata=to.metadata
            )
        else:
            write_video(frames, path, audio=audio, **encoding(to, fps))
        return self.Out(written(path))

    def streamed(self, media: VideoStream, to: Destination, audio: Audio | None) -> Asking[Out]:
        """Read a stream to its end; a clip is encoded while its later frames are decoded."""
        if media.num_frames == 1:
            frames = yield from gather(*media.parts())
            out = self.run(media=Video(frames[0], media.fps), to=to, audio=audio)
            assert isinstance(out, self.Out)
            return out
        path = encoded_path(to, media.num_frames, media.fps)
        while True:
            try:
                with VideoWriter(path, audio=audio, **encoding(to, media.fps)) as writer:
                    for ask in media.parts():
                        writer.write((yield from ask))
            except Again:
                continue  # from the first frame, now in tiles
            return self.Out(written(path))


@dataclass(frozen=True, kw_only=True)
class SavePictures:
    """Save pictures that belong together, each as a file of its own: `NAME_1`, `NAME_2`, ...

    media  n pictures h w c, uint8
    to     where and how, as for one picture
    files  n, in order
    """

    class Out(NamedTuple):
        files: tuple[File, ...]

    def run(self, *, media: tuple[Image, ...], to: Destination) -> Out:
        digits = len(str(len(media)))  # of one length, so that names sort as the pictures do
        names = [f"{to.name}_{i:0{digits}d}" for i in range(1, len(media) + 1)]
        each = zip(media, names, strict=True)
        made = [SaveMedia().run(media=picture, to=replace(to, name=name)) for picture, name in each]
        return self.Out(tuple(out.file for out in made if isinstance(out, SaveMedia.Out)))


@dataclass(frozen=True, kw_only=True)
class SaveFrames:
    """Save raw frames as `.npy`, whatever suffix `to` names.

    media  h w c, f h w c or f pictures h w c  uint8
    to     where; a picture is saved as a single frame
    file   an array f h w c, uint8, written whole
    """

    class Out(NamedTuple):
        file: File

    def run(self, *, media: Image | Video | tuple[Image, ...], to: Destination) -> Out:
        path = inside(to, ".npy")
        if isinstance(media, Video):
            frames = media.frames
        else:
            pictures = media if isinstance(media, tuple) else (media,)
            frames = torch.stack([picture.pixels for picture in pictures])
        files.write_frames(frames, path, metadata=to.metadata)
        return self.Out(written(path))


def encoded_path(to: Destination, num_frames: int, fps: float) -> Path:
    """Where a clip or picture goes; a UserError where the suffix does not hold it."""
    suffix = to.suffix or files.default_suffix(num_frames)
    files.check_suffix(suffix, num_frames, fps)
    return inside(to, suffix)


def encoding(to: Destination, fps: float) -> dict[str, Any]:
    """How a clip is encoded, as `write_video` takes it."""
    wanted = {"quality": to.quality, "compression": to.compression, "preset": to.x264_preset}
    return {"fps": fps, "metadata": to.metadata, **wanted}


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
