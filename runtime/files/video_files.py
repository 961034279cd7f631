"""Clips in files: H.264 and AAC in MP4, animated WebP and GIF. Frames are streamed. No torch."""

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
from runtime.files import embedded_text as carried
from runtime.files.atomic_write import whole
from runtime.files.image_files import (
    CLIPS,
    DAMAGED,
    check_size,
    check_suffix,
    on_white,
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
# Numbers of ITU-T H.273. Players that ignore the tags decode with BT.601 more often than not, so
# that is the matrix; primaries and transfer are those of sRGB, in which all pictures are.
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
    """Write a clip as MP4 (H.264), animated WebP or GIF, by suffix.

    frames       each h w c, uint8, c is 1, 3 or 4, all of one size; taken one at a time
    fps          frames per second; exact in MP4 and WebP, GIF rounds times to 10 ms
    compression  0 to 100, overrides quality; neither changes a GIF
    preset       speed of the H.264 encoder
    metadata     ASCII text that the file carries
    audio        the sound of an MP4, cut or filled up with silence to the length of the clip; the
                 other formats have none
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
    with whole(path) as temporary:
        if suffix == ".mp4":
            _write_mp4(
                pictures, first.shape, temporary, rate, percent=percent, preset=preset,
                metadata=metadata, audio=audio,
            )  # fmt: skip
        elif suffix == ".webp":
            _write_webp(pictures, first.shape, temporary, rate, percent)
            carried.add_to_webp(temporary, metadata)
        else:
            _write_gif(pictures, temporary, rate)
    carried.write_beside(path, metadata if suffix == ".gif" else "")


class VideoWriter:
    """Writes a clip while its frames are still being made: encoding runs in a thread of its own.

    Takes what `write_video` takes. At most two parts wait, so that memory does not grow with the
    clip. Leaving the block finishes the file, or removes it after an exception.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self._parts: Queue[Any] = Queue(maxsize=2)
        self._problem: BaseException | None = None
        self._stopped = False
        self._thread = Thread(target=self._write, args=(path, options), name="encode")

    def __enter__(self) -> VideoWriter:
        self._thread.start()
        return self

    def write(self, frames: Any) -> None:
        """Add frames `f h w c`, uint8; waits while two parts are unwritten."""
        self._put(to_numpy(frames))

    def __exit__(self, kind: object, problem: object, trace: object) -> None:
        self._stopped = problem is not None
        self._put(None)
        self._thread.join()
        if self._problem is not None and problem is None:
            raise self._problem

    def _put(self, part: Any) -> None:
        while self._thread.is_alive():
            try:
                self._parts.put(part, timeout=0.1)
            except Full:
                continue  # unless the encoder failed meanwhile
            return
        if self._problem is not None and not self._stopped:
            raise self._problem

    def _write(self, path: Path, options: dict[str, Any]) -> None:
        try:
            write_video(self._frames(), path, **options)
        except BaseException as problem:  # told where the frames come from
            self._problem = problem

    def _frames(self) -> Iterator[Picture]:
        while (part := self._parts.get()) is not None:
            yield from part
        if self._stopped:
            raise Abandoned


class Abandoned(Exception):
    """The frames stopped coming: what is written so far is removed."""


def exact_rate(fps: float | Fraction) -> Fraction:
    """The fraction a frame rate was meant as: 23.976 is 2997/125, 30000/1001 stays what it is."""
    if not math.isfinite(fps) or fps <= 0:
        raise UserError(f"`fps` expects a number above 0, got {fps}", field="fps")
    return Fraction(fps).limit_denominator(100_000)


def _rgb(frame: Any) -> Picture:
    """One frame `h w c` as `h w 3`, transparent parts white."""
    import numpy as np
    from PIL import Image

    pixels = to_numpy(frame)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        return np.asarray(on_white(Image.fromarray(pixels)))
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
            f'`x264_preset` expects one of {", ".join(PRESETS)}, got "{preset}"',
            help=did_you_mean(preset, PRESETS),
            field="x264_preset",
        )
    options = {"crf": str((100 - percent) * 51 // 100), "preset": preset}
    # A clip's length is stored in these units: with the usual milliseconds it would be rounded.
    units = rate.numerator * math.ceil(1000 / rate.numerator)
    layout = {"movflags": "+faststart", "movie_timescale": str(units)}
    with av.open(str(path), "w", format="mp4", options=layout) as file:
        if metadata:
            file.metadata["comment"] = metadata
        stream = file.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = shape[:2]
        # Halved colour needs even sides, and an exact size matters more than old players.
        stream.pix_fmt = "yuv420p" if shape[0] % 2 == shape[1] % 2 == 0 else "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = BT601, LIMITED
        context.color_primaries, context.color_trc = SRGB_PRIMARIES, SRGB_TRANSFER
        sound = None if audio is None else Sound(file, audio)
        for index, picture in enumerate(pictures, start=1):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=stream.pix_fmt, dst_colorspace="ITU601", interpolation="BICUBIC"
            )
            file.mux(stream.encode(frame))
            if sound:
                sound.write(index / rate)
        file.mux(stream.encode())
        if sound:
            sound.close()


class Sound:
    """The AAC track of an MP4, written as far as its pictures are."""

    def __init__(self, file: Any, audio: Audio) -> None:
        import numpy as np

        self._samples = np.clip(audio.samples.cpu().numpy(), -1, 1)
        self._rate, self._file, self._written = audio.rate, file, 0
        self._layout = "mono" if len(self._samples) == 1 else "stereo"
        self._stream = file.add_stream("aac", rate=audio.rate, options={"b": "192000"})
        self._stream.layout = self._layout

    def write(self, seconds: Fraction) -> None:
        """Go on to this time, with silence where the sound is over."""
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
        """Write what the encoder still holds."""
        self._file.mux(self._stream.encode())


def _write_webp(
    pictures: Iterable[Picture], shape: tuple[int, ...], path: Path, rate: Fraction, percent: int
) -> None:
    """Animated WebP by FFmpeg, since Pillow wants all frames at once."""
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
            # Times are whole hundredths of a second: rounding their sum keeps the clip's length.
            start, end = end, round(index * 100 / rate)
            image = Image.fromarray(picture)
            image.info["duration"] = (end - start) * 10
            yield image

    images = timed()
    encoded = BytesIO()  # given a file, Pillow takes a write cut short by a full disk for success
    next(images).save(encoded, format="gif", save_all=True, append_images=images, loop=0)
    path.write_bytes(encoded.getbuffer())


def recompressed(picture: Any, crf: int) -> Picture:
    """A picture h w 3, uint8, as a frame of H.264 shows it, its sides cut to even ones.

    crf  1 to 51; 0: the picture as it is

    Source: diffusers 0.42, `apply_image_conditioning_crf` of pipelines/ltx2/utils.py.
    """
    import av

    pixels = to_numpy(picture)
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    if crf == 0 or not height * width:
        return pixels
    encoded = BytesIO()
    with av.open(encoded, "w", format="mp4") as file:
        options = {"crf": str(crf), "preset": "veryfast"}
        stream = file.add_stream("libx264", rate=1, options=options)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(pixels[:height, :width], format="rgb24")
        file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode())
    encoded.seek(0)
    with av.open(encoded) as file:
        shown: Picture = next(file.decode(video=0)).to_ndarray(format="rgb24")
    return shown


def read_video(path: Path) -> tuple[Picture, float]:
    """Read a clip: frames `f h w 3`, uint8, and frames per second."""
    import av
    import numpy as np

    if not path.is_file():
        reason = "is a folder, not a clip" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {reason}", help="give the path of a clip")
    if path.suffix.lower() in CLIPS and path.suffix.lower() != ".mp4":
        return _read_animation(path)
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
            rate = float(stream.average_rate or stream.guessed_rate or 0)
    except (*DAMAGED, av.error.FFmpegError) as problem:
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
    except (*DAMAGED, Image.DecompressionBombError) as problem:
        raise _unreadable(path, problem) from problem
    return np.stack(frames), len(frames) * 1000 / milliseconds


def _unreadable(path: Path, problem: object) -> UserError:
    return UserError(
        f"{path} cannot be read as a clip: {problem}", help="give an MP4, WebP or GIF file"
    )
