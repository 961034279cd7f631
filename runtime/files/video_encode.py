"""Encoders of clips: H.264 and AAC in MP4, animated WebP, GIF. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError, did_you_mean
from runtime.files.image_decode import flatten_on_white
from runtime.files.image_files import to_numpy

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


def frame_pixels(frame: object) -> Picture:
    """One frame `h w c` as `h w 3`, composited on white."""
    import numpy as np
    from PIL import Image

    pixels = to_numpy(frame)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        return np.asarray(flatten_on_white(Image.fromarray(pixels)))
    return pixels


def same_size(first: Picture, others: Iterator[Picture]) -> Iterator[Picture]:
    """All frames, the first among them; ValueError where their shapes differ."""
    for picture in chain([first], others):
        if picture.shape != first.shape:
            raise ValueError(f"frames differ in shape: {first.shape} and {picture.shape}")
        yield picture


@dataclass
class Counted:
    """Pictures on their way into a file, and how many went."""

    pictures: Iterable[Picture]
    count: int = 0

    def __iter__(self) -> Iterator[Picture]:
        for picture in self.pictures:
            self.count += 1
            yield picture


def exact_flags() -> Any:
    """Options of swscale for colours without a systematic error: its defaults darken each pass."""
    from av.video.reformatter import Interpolation

    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    return flags | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


def write_mp4(
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
    """Write H.264 and, if there is audio, AAC."""
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
                format=stream.pix_fmt, dst_colorspace="ITU601", interpolation=exact_flags()
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


def write_webp(
    pictures: Iterable[Picture], shape: tuple[int, ...], path: Path, rate: Fraction, percent: int
) -> None:
    """Write animated WebP with FFmpeg, because Pillow needs all frames in memory."""
    import av

    with av.open(str(path), "w", format="webp", options={"loop": "0"}) as file:
        stream = file.add_stream("libwebp_anim", rate=1000, options={"quality": str(percent)})
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = "yuv420p"
        # Times are in milliseconds. Each is rounded by itself, so no error accumulates.
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 1000), round(index * 1000 / rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    _end_webp_at(path, round((index + 1) * 1000 / rate))


def _end_webp_at(path: Path, length: int) -> None:
    """Show the last frame of an animated WebP until `length` ms: FFmpeg repeats the time before."""
    with path.open("r+b") as file:
        size, at, total, last = path.stat().st_size, 12, 0, 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(23)
            if head[:4] == b"ANMF":  # its duration is in 3 bytes, after 12 of place and size
                last, duration = at + 20, int.from_bytes(head[20:23], "little")
                total += duration
            at += 8 + (int.from_bytes(head[4:8], "little") + 1) // 2 * 2
        if last and total != length:
            file.seek(last)
            file.write(max(duration + length - total, 1).to_bytes(3, "little"))


def write_gif(pictures: Iterable[Picture], path: Path, rate: Fraction) -> None:
    """Write GIF."""
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
