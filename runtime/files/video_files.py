"""Clip files: MP4 with H.264 and AAC, animated WebP, GIF. Frames are streamed. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError, did_you_mean
from runtime.files import embedded_text
from runtime.files.atomic_write import atomic_write
from runtime.files.image_files import (
    DECODE_ERRORS,
    VIDEO_TYPES,
    check_size,
    check_suffix,
    flatten_on_white,
    quality_percent,
    to_numpy,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from runtime.contract.values import Audio

    Picture = NDArray[np.uint8]

PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
    "placebo",
)  # fmt: skip
# Code points of ITU-T H.273. Most players that ignore the tags assume BT.601, so clips use that
# matrix. The primaries and the transfer function are those of sRGB, like those of the frames.
BT601, LIMITED, SRGB_PRIMARIES, SRGB_TRANSFER = 6, 1, 1, 13


def write_video(
    frames: Iterable[Any],
    path: Path,
    *,
    fps: float | Fraction,
    quality: str = "default",
    compression: int | None = None,
    preset: str = "fast",
    metadata: str = "",
    audio: Audio | None = None,
) -> None:
    """Write a clip as MP4 (H.264), animated WebP or GIF, chosen by suffix.

    frames       each h w c, uint8, c is 1, 3 or 4, all of the same size; read one at a time
    fps          frames per second; exact in MP4; WebP rounds times to 1 ms, GIF to 10 ms
    compression  0 to 100, overrides quality; both have no effect on a GIF
    preset       speed of the H.264 encoder
    metadata     ASCII text to embed in the file
    audio        the audio track of an MP4, cut or padded with silence to the length of the clip;
                 the other formats have no audio
    """
    suffix = path.suffix.lower()
    check_suffix(suffix, 2, float(fps))
    percent = quality_percent(quality, compression, 50 if suffix == ".mp4" else 75)
    rate = exact_rate(fps)
    pictures: Iterator[Picture] = map(_rgb, frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"no frames for {path}")
    check_size(suffix, *first.shape[:2])
    pictures = _same_size(first, pictures)
    with atomic_write(path) as temporary:
        if suffix == ".mp4":
            _write_mp4(
                pictures, first.shape, temporary, rate, percent=percent, preset=preset,
                metadata=metadata, audio=audio,
            )  # fmt: skip
        elif suffix == ".webp":
            _write_webp(pictures, first.shape, temporary, rate, percent)
            embedded_text.add_to_webp(temporary, metadata)
        else:
            _write_gif(pictures, temporary, rate)
    embedded_text.write_sidecar(path, metadata if suffix == ".gif" else "")


class VideoWriter:
    """Encode a clip in a background thread while its frames are still being generated.

    The arguments are those of `write_video`. At most two chunks of frames wait in the queue, so
    memory does not grow with the length of the clip. Leaving the `with` block finishes the file;
    after an exception no file is left.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self._queue: Queue[Any] = Queue(maxsize=2)
        self._problem: BaseException | None = None
        self._failed = False
        self._thread = Thread(target=self._write, args=(path, options), name="encode")

    def __enter__(self) -> VideoWriter:
        self._thread.start()
        return self

    def write(self, frames: Any) -> None:
        """Add frames `f h w c`, uint8; blocks while two chunks are waiting."""
        self._put(to_numpy(frames))

    def __exit__(self, kind: object, problem: object, trace: object) -> None:
        self._failed = problem is not None
        self._put(None)
        self._thread.join()
        if self._problem is not None and problem is None:
            raise self._problem

    def _put(self, chunk: Any) -> None:
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


def _rgb(frame: Any) -> Picture:
    """One frame `h w c` as `h w 3`, composited on white."""
    import numpy as np
    from PIL import Image

    pixels = to_numpy(frame)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        return np.asarray(flatten_on_white(Image.fromarray(pixels)))
    return pixels


def _same_size(first: Picture, others: Iterator[Picture]) -> Iterator[Picture]:
    for picture in chain([first], others):
        if picture.shape != first.shape:
            raise ValueError(f"frames differ in shape: {first.shape} and {picture.shape}")
        yield picture


def _write_mp4(
    pictures: Iterable[Picture],
    shape: tuple[int, ...],
    path: Path,
    rate: Fraction,
    *,
    percent: int,
    preset: str,
    metadata: str,
    audio: Audio | None,
) -> None:
    import av

    if preset not in PRESETS:
        raise UserError(
            f'`output.x264_preset` expects one of {", ".join(PRESETS)}, got "{preset}"',
            help=did_you_mean(preset, PRESETS),
            field="output.x264_preset",
        )
    options = {"crf": str((100 - percent) * 51 // 100), "preset": preset}
    # The length of the clip is stored in this time scale; in the default one (ms) it is rounded.
    units = rate.numerator * math.ceil(1000 / rate.numerator)
    layout = {"movflags": "+faststart", "movie_timescale": str(units)}
    with av.open(str(path), "w", format="mp4", options=layout) as file:
        if metadata:
            file.metadata["comment"] = metadata
        stream = file.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = shape[:2]
        # 4:2:0 needs even sides. 4:4:4 keeps an odd size exact, though old players cannot play it.
        stream.pix_fmt = "yuv420p" if shape[0] % 2 == shape[1] % 2 == 0 else "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = BT601, LIMITED
        context.color_primaries, context.color_trc = SRGB_PRIMARIES, SRGB_TRANSFER
        track = None if audio is None else AudioTrack(file, audio)
        for index, picture in enumerate(pictures, start=1):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=stream.pix_fmt, dst_colorspace="ITU601", interpolation="BICUBIC"
            )
            file.mux(stream.encode(frame))
            if track:
                track.write(index / rate)
        file.mux(stream.encode())
        if track:
            track.close()


class AudioTrack:
    """The AAC track of an MP4, interleaved with its frames."""

    def __init__(self, file: Any, audio: Audio) -> None:
        import numpy as np

        self._samples = np.clip(audio.samples.cpu().numpy(), -1, 1)
        self._rate, self._file, self._written = audio.rate, file, 0
        self._layout = "mono" if len(self._samples) == 1 else "stereo"
        self._stream = file.add_stream("aac", rate=audio.rate, options={"b": "192000"})
        self._stream.layout = self._layout

    def write(self, seconds: Fraction) -> None:
        """Encode the samples up to this time, with silence after the last sample."""
        import av
        import numpy as np

        end = round(seconds * self._rate)
        part = self._samples[:, self._written : end]
        silence = end - self._written - part.shape[1]
        if end == self._written:
            return
        filled = np.ascontiguousarray(np.pad(part, ((0, 0), (0, silence))))
        frame = av.AudioFrame.from_ndarray(filled, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._written
        frame.time_base = Fraction(1, self._rate)
        self._file.mux(self._stream.encode(frame))
        self._written = end

    def close(self) -> None:
        """Flush the encoder."""
        self._file.mux(self._stream.encode())


def _write_webp(
    pictures: Iterable[Picture], shape: tuple[int, ...], path: Path, rate: Fraction, percent: int
) -> None:
    """Write animated WebP with FFmpeg, because Pillow needs all frames in memory."""
    import av

    with av.open(str(path), "w", format="webp", options={"loop": "0"}) as file:
        stream = file.add_stream("libwebp_anim", rate=rate, options={"quality": str(percent)})
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def _write_gif(pictures: Iterable[Picture], path: Path, rate: Fraction) -> None:
    from PIL import Image

    def timed() -> Iterator[Image.Image]:
        end = 0
        for index, picture in enumerate(pictures, start=1):
            # GIF times are in hundredths of a second. The sum is rounded, so no error accumulates.
            start, end = end, round(index * 100 / rate)
            image = Image.fromarray(picture)
            image.info["duration"] = (end - start) * 10
            yield image

    images = timed()
    encoded = BytesIO()  # Pillow ignores short writes to a file
    next(images).save(encoded, format="gif", save_all=True, append_images=images, loop=0)
    path.write_bytes(encoded.getbuffer())


def h264_round_trip(pixels: Picture, crf: int) -> Picture:
    """Encode a picture as a single H.264 frame and decode it again, to get its compression loss.

    pixels  h w 3, uint8, with even sides
    crf     constant rate factor of x264, 1 to 51
    """
    import av

    encoded = BytesIO()
    with av.open(encoded, "w", format="mp4") as file:
        options = {"crf": str(crf), "preset": "veryfast"}
        stream = file.add_stream("libx264", rate=1, options=options)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode())
    encoded.seek(0)
    with av.open(encoded) as file:
        decoded: Picture = next(file.decode(video=0)).to_ndarray(format="rgb24")
    return decoded


def read_video(path: Path) -> tuple[Picture, float]:
    """Read a clip: frames `f h w 3`, uint8, and frames per second."""
    import av
    import numpy as np

    if not path.is_file():
        reason = "is a folder, not a clip" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {reason}", help="give the path of a clip")
    if path.suffix.lower() in VIDEO_TYPES and path.suffix.lower() != ".mp4":
        return _read_animation(path)
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
            rate = float(stream.average_rate or stream.guessed_rate or 0)
    except (*DECODE_ERRORS, av.error.FFmpegError) as problem:
        raise _unreadable(path, problem) from problem
    if not frames or not rate:
        raise _unreadable(path, "it holds no frames")
    return np.stack(frames), rate


def _read_animation(path: Path) -> tuple[Picture, float]:
    import numpy as np
    from PIL import Image, ImageSequence

    frames, milliseconds = [], 0.0
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                frames.append(np.asarray(frame.convert("RGB")))
                milliseconds += frame.info.get("duration") or 100  # as browsers play it
    except (*DECODE_ERRORS, Image.DecompressionBombError) as problem:
        raise _unreadable(path, problem) from problem
    return np.stack(frames), len(frames) * 1000 / milliseconds


def _unreadable(path: Path, problem: object) -> UserError:
    return UserError(
        f"{path} cannot be read as a clip: {problem}", help="give an MP4, WebP or GIF file"
    )
