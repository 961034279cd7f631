"""Clip files: MP4 with H.264 and AAC, animated WebP, GIF. Frames are streamed. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files import embedded_text
from runtime.files.atomic_write import atomic_write
from runtime.files.content_type import (
    AVIF,
    GIF,
    HEAD_BYTES,
    MOV,
    MP4,
    PNG,
    UNKNOWN,
    Content,
    content_type,
)
from runtime.files.embedded_text import Metadata, text_of
from runtime.files.image_decode import open_image
from runtime.files.image_files import (
    check_size,
    check_suffix,
    quality_percent,
    to_numpy,
)
from runtime.files.image_formats import DECODE_ERRORS
from runtime.files.mp4_comment import replace_mp4_comment
from runtime.files.video_check import check_written
from runtime.files.video_decode import Animation, CutOff, EncodedClip, NotAClip
from runtime.files.video_encode import (
    Counted,
    frame_pixels,
    same_size,
    write_gif,
    write_mp4,
    write_webp,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.contract.values import Audio

    Picture = NDArray[np.uint8]


def write_video(
    frames: Iterable[object],
    path: Path,
    *,
    fps: float | Fraction,
    quality: str = "default",
    compression: int | None = None,
    preset: str = "fast",
    metadata: Metadata = "",
    audio: Audio | None = None,
) -> None:
    """Write a clip as MP4 (H.264), animated WebP or GIF, chosen by suffix.

    frames       each h w c, uint8, c is 1, 3 or 4, all of the same size; read one at a time
    fps          frames per second; exact in MP4; WebP rounds times to 1 ms, GIF to 10 ms
    compression  0 to 100, overrides quality; both have no effect on a GIF
    preset       speed of the H.264 encoder
    metadata     ASCII text to embed in the file; a function is asked when the clip is complete
    audio        the audio track of an MP4, cut or padded with silence to the length of the clip;
                 the other formats have no audio
    """
    suffix = path.suffix.lower()
    check_suffix(suffix, 2, float(fps))
    percent = quality_percent(quality, compression, 50 if suffix == ".mp4" else 75)
    rate = exact_rate(fps)
    pictures: Iterator[Picture] = map(frame_pixels, frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"no frames for {path}")
    check_size(suffix, *first.shape[:2])
    written = Counted(same_size(first, pictures))
    pictures = iter(written)
    with atomic_write(path) as temporary:
        if suffix == ".mp4":
            text = text_of(metadata)
            write_mp4(
                pictures, first.shape, temporary, rate, percent=percent, preset=preset,
                metadata=text, audio=audio,
            )  # fmt: skip
            if (now := text_of(metadata)) != text:  # such as tiles that memory forced meanwhile
                replace_mp4_comment(temporary, now)
        elif suffix == ".webp":
            write_webp(pictures, first.shape, temporary, rate, percent)
            embedded_text.add_to_webp(temporary, text_of(metadata))
        else:
            write_gif(pictures, temporary, rate)
        check_written(temporary, suffix, (first.shape[0], first.shape[1]), written.count, rate)
    embedded_text.write_sidecar(path, text_of(metadata) if suffix == ".gif" else "")


class VideoWriter:
    """Encode a clip in a background thread while its frames are still being generated.

    The arguments are those of `write_video`. At most two chunks of frames wait in the queue, so
    memory does not grow with the length of the clip. Leaving the `with` block finishes the file;
    after an exception no file is left.
    """

    def __init__(self, path: Path, **options: object) -> None:
        self._queue: Queue[Any] = Queue(maxsize=2)
        self._problem: BaseException | None = None
        self._failed = False
        self._thread = Thread(target=self._write, args=(path, options), name="encode")

    def __enter__(self) -> VideoWriter:
        self._thread.start()
        return self

    def write(self, frames: object) -> None:
        """Add frames `f h w c`, uint8; blocks while two chunks are waiting."""
        self._put(to_numpy(frames))

    def __exit__(self, kind: object, problem: object, trace: object) -> None:
        self._failed = problem is not None
        self._put(None)
        self._thread.join()
        if self._problem is not None and problem is None:
            raise self._problem

    def _put(self, chunk: object) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(chunk, timeout=0.1)
            except Full:
                continue  # retry, unless the encoder thread ended
            return
        if self._problem is not None and not self._failed:
            raise self._problem

    def _write(self, path: Path, options: dict[str, Any]) -> None:
        try:
            write_video(self._frames(), path, **options)
        except BaseException as problem:  # raised again in the thread that produces the frames
            self._problem = problem

    def _frames(self) -> Iterator[Picture]:
        while (chunk := self._queue.get()) is not None:
            yield from chunk
        if self._failed:
            raise WriteAborted


class WriteAborted(Exception):
    """The producer of the frames failed; the unfinished file is deleted."""


def exact_rate(fps: float | Fraction) -> Fraction:
    """A frame rate as an exact fraction: 23.976 is 2997/125, and 30000/1001 is unchanged."""
    if not math.isfinite(fps) or fps <= 0:
        raise UserError(f"`request.fps` expects a number above 0, got {fps}", field="request.fps")
    return Fraction(fps).limit_denominator(100_000)


def read_video(
    path: Path, label: str = "", *, num_frames: int | None = None, fps: float | None = None
) -> tuple[Picture, float]:
    """Read a clip, by its content and as players show it: frames `f h w 3`, uint8, and their rate.

    label       names the clip in messages; the path if empty
    num_frames  how many at most; later ones are not decoded, so that memory depends on this number
    fps         frames per second of the result, taken by their times; None keeps those of the clip
    """
    import numpy as np

    with _open_video(path, label) as clip:
        timing = clip.timing.at(fps)
        count = timing.count if num_frames is None else min(num_frames, timing.count)
        frames: Picture | None = None
        for index, picture in enumerate(islice(clip.frames(timing), count)):
            if frames is None:
                frames = np.empty((count, *picture.shape), np.uint8)
            if picture.shape != frames.shape[1:]:
                raise NotAClip(label or str(path), f"frame {index + 1} has another size")
            frames[index] = picture
        if frames is None:
            raise NotAClip(label or str(path), "it holds no frames")
        return frames, timing.rate


def check_video(path: Path, label: str = "", *, max_pixels: int = 0) -> str:
    """The suffix of a clip by its content; a UserError if it is not a clip.

    label       names the clip in messages; the path if empty
    max_pixels  of a clip that came from outside: the most that a frame may have. Its first frame is
                decoded, and only formats whose content is known are opened: FFmpeg also knows
                playlists, which would make it open other files and addresses
    """
    content = _content(path) if path.is_file() else UNKNOWN
    if max_pixels and content == UNKNOWN:
        raise NotAClip(label or str(path), f"it is {content.name}")
    with _open_video(path, label, max_pixels) as clip:
        if max_pixels and next(clip.frames(clip.timing), None) is None:
            raise NotAClip(label or str(path), "it holds no frames")
        return f".{content.extension or 'mp4'}"


@contextmanager
def _open_video(
    path: Path, label: str = "", max_pixels: int = 0
) -> Iterator[EncodedClip | Animation]:
    """A clip whose frames can be read; what is wrong with it, here or later, is a UserError."""
    import av
    from PIL import Image

    label = label or str(path)
    if not path.is_file():
        reason = "is a folder, not a clip" if path.is_dir() else "does not exist"
        raise UserError(f"{label} {reason}", help="give the path of a clip")
    try:
        content = _content(path)
        if content.kind == "animation":
            with open_image(path, "it") as image:
                if content in {PNG, AVIF} and getattr(image, "n_frames", 1) < 2:
                    raise NotAClip(label, f"it is {content.name}")
                _check_pixels(label, image.height, image.width, max_pixels)
                yield Animation(path, image, 0.01 if content == GIF else 0.001)
            return
        if content.kind != "clip" and content != UNKNOWN:
            raise NotAClip(label, f"it is {content.name}")
        clip = EncodedClip(path, content.demuxer)
        _check_pixels(label, *clip.size, max_pixels)
        yield clip
    except PermissionError as problem:
        raise UserError(
            f"{label} may not be read: permission denied", help="allow reading it"
        ) from problem
    except NotAClip:
        raise
    except UserError as problem:  # of one of its pictures
        raise NotAClip(label, problem.message) from problem
    except CutOff as problem:
        raise NotAClip(label, problem) from problem
    except (*DECODE_ERRORS, av.error.FFmpegError, Image.DecompressionBombError) as problem:
        raise NotAClip(label, _damage(path, problem)) from problem


def _check_pixels(label: str, rows: int, columns: int, most: int) -> None:
    if most and rows * columns > most:
        raise NotAClip(label, f"it has {columns}x{rows} pixels; {most} are the most")


def _content(path: Path) -> Content:
    with path.open("rb") as file:
        return content_type(file.read(HEAD_BYTES))


def _damage(path: Path, problem: Exception) -> str:
    """What is wrong with a clip, in words that help more than FFmpeg's."""
    if _content(path) in {MP4, MOV} and b"moov" not in path.read_bytes():
        return "its index is missing, because the recording or the copy of it was cut off"
    reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return str(reason)
