"""Nodes that save pictures, clips and raw frames as files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from runtime.contract.calls import Asking
from runtime.contract.outputs import Destination, File
from runtime.contract.values import Audio, Image, Rewind, Video, VideoStream
from runtime.errors import UserError
from runtime.files import image_files
from runtime.files.video_files import VideoWriter, write_video


@dataclass(frozen=True, kw_only=True)
class SaveMedia:
    """Encode a picture or a clip and save it as a file.

    media  h w c or f h w c  uint8; a single frame is saved as a picture unless the suffix of `to`
           is that of a clip. A stream is encoded while the VAE decodes its later frames
    audio  the audio track of an MP4, cut or padded to the length of the clip; other formats have
           no audio
    to     folder, name, format and quality; without a suffix a picture is a PNG and a clip an MP4
    file   the file, written atomically
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
            return self.save_stream(media, to, audio)
        frames = media.frames if isinstance(media, Video) else media.pixels[None]
        # A picture that is saved as a clip lasts one second.
        fps = media.fps if isinstance(media, Video) else 1.0
        path = encoded_path(to, len(frames), fps)
        if len(frames) == 1 and path.suffix.lower() in image_files.IMAGE_TYPES:
            quality, compression = to.quality, to.compression
            image_files.write_image(
                frames[0], path, quality=quality, compression=compression, metadata=to.metadata
            )
        else:
            write_video(frames, path, audio=audio, **video_options(to, fps))
        return self.Out(as_file(path))

    def save_stream(self, media: VideoStream, to: Destination, audio: Audio | None) -> Asking[Out]:
        """Encode a stream while its later frames are still being decoded."""
        if media.num_frames == 1:
            (ask,) = media.parts()
            frames = yield from ask
            out = self.run(media=Video(frames, media.fps), to=to, audio=audio)
            assert isinstance(out, self.Out)
            return out
        path = encoded_path(to, media.num_frames, media.fps)
        while True:
            try:
                with VideoWriter(path, audio=audio, **video_options(to, media.fps)) as writer:
                    for ask in media.parts():
                        writer.write((yield from ask))
            except Rewind:
                continue  # restart at the first frame, decoded in float32 this time
            return self.Out(as_file(path))


@dataclass(frozen=True, kw_only=True)
class SavePictures:
    """Save several pictures as files `NAME_1`, `NAME_2`, ...

    media  n pictures h w c, uint8
    to     folder, name, format and quality, as for one picture
    files  n files, in the order of the pictures
    """

    class Out(NamedTuple):
        files: tuple[File, ...]

    def run(self, *, media: tuple[Image, ...], to: Destination) -> Out:
        digits = len(str(len(media)))  # zero-padded, so that names sort in order
        names = [f"{to.name}_{i:0{digits}d}" for i in range(1, len(media) + 1)]
        named = zip(media, names, strict=True)
        outs = [
            SaveMedia().run(media=picture, to=replace(to, name=name)) for picture, name in named
        ]
        return self.Out(tuple(out.file for out in outs if isinstance(out, SaveMedia.Out)))


@dataclass(frozen=True, kw_only=True)
class SaveFrames:
    """Save raw frames as a `.npy` file; the suffix of `to` is not used.

    media  h w c, f h w c or f pictures h w c  uint8
    to     folder and name; a picture is saved as a single frame
    file   an array f h w c, uint8, written atomically
    """

    class Out(NamedTuple):
        file: File

    def run(self, *, media: Image | Video | tuple[Image, ...], to: Destination) -> Out:
        path = path_in_folder(to, ".npy")
        if isinstance(media, Video):
            frames = media.frames
        else:
            pictures = media if isinstance(media, tuple) else (media,)
            frames = torch.stack([picture.pixels for picture in pictures])
        image_files.write_frames(frames, path, metadata=to.record or "")
        return self.Out(as_file(path))


def encoded_path(to: Destination, num_frames: int, fps: float) -> Path:
    """The path of the encoded file; raises UserError if its format cannot hold the frames."""
    suffix = to.suffix or image_files.default_suffix(num_frames)
    image_files.check_suffix(suffix, num_frames, fps)
    return path_in_folder(to, suffix)


def video_options(to: Destination, fps: float) -> dict[str, Any]:
    """The keyword arguments of `write_video` that a destination sets."""
    encoder = {"quality": to.quality, "compression": to.compression, "preset": to.x264_preset}
    return {"fps": fps, "metadata": to.record or "", **encoder}


def path_in_folder(to: Destination, suffix: str) -> Path:
    """The path of the file; raises UserError if the name leads out of the folder of `to`."""
    name = to.name + suffix
    if to.name in {"", ".", ".."} or Path(name).name != name or "\0" in name or "\\" in name:
        raise UserError(
            f'`output.file_name` is "{name}", which is not a plain file name',
            help="give a name without folders; `output.path` is the folder",
            field="output.file_name",
        )
    return to.folder / name


def as_file(path: Path) -> File:
    """The path, media type and size of a written file."""
    return File(path, image_files.MEDIA_TYPES[path.suffix.lower()], path.stat().st_size)
