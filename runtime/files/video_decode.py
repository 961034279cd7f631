"""Decode clips as players show them: upright, at a constant rate, in sRGB. Imports no torch."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files.frame_timing import Timing, timing
from runtime.files.video_color import frame_to_srgb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

# Decoders that read the alpha of WebM; FFmpeg's own ignore it.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class TimedFrame:
    """A frame that is not converted yet. time: seconds from which it is shown."""

    time: float
    frame: Any


class CutOff(Exception):
    """The file ends, or becomes unreadable, before its last frame; the message says where."""


class EncodedClip:
    """A clip that PyAV reads. Frames are decoded while they are iterated over."""

    def __init__(self, path: Path, demuxer: str = "") -> None:
        """Read the index. demuxer: FFmpeg's format; without it FFmpeg tries all that it knows."""
        import av

        self._path, self._demuxer = path, demuxer or None
        with av.open(str(path), format=self._demuxer, metadata_errors="ignore") as file:
            stream = self._stream(file)
            self.size = int(stream.height), int(stream.width)
            self.tick = float(stream.time_base or 0)
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            self._announced = int(stream.frames)
            self._pixel_ratio = float(stream.sample_aspect_ratio or 1)
            self.timing, self._complete = self._read_times(file, stream, rate)

    @staticmethod
    def _stream(file: Any) -> Any:
        """The video track: not a cover picture, and the default one of several."""
        from av.stream import Disposition

        tracks = [s for s in file.streams.video if not s.disposition & Disposition.attached_pic]
        if not tracks:
            raise ValueError("it has no video track")
        default = [s for s in tracks if s.disposition & Disposition.default]
        return (default or tracks)[0]

    def _read_times(self, file: Any, stream: object, rate: float) -> tuple[Timing, bool]:
        """The times of all frames, from the packets alone, and whether the file is complete."""
        import av

        times, last, packets, complete = [], 0.0, 0, True
        try:
            for packet in file.demux(stream):
                if packet.is_corrupt or not packet.size:
                    complete = complete and not packet.is_corrupt
                    continue
                packets += 1
                if not packet.is_discard:
                    time = packet.pts if packet.pts is not None else packet.dts
                    times.append(packets / (rate or 25) if time is None else time * self.tick)
                    last = float(packet.duration or 0) * self.tick
        except av.error.FFmpegError:
            complete = False
        if not times:
            raise ValueError("it holds no frames")
        complete = complete and packets >= self._announced
        times = sorted(set(times))
        return timing(times, last, max(self.tick, 1e-3), rate), complete

    def frames(self, wanted: Timing) -> Iterator[Picture]:
        """The frames shown at the moments of a constant rate; CutOff where the file ends early."""
        index, current, picture = 0, None, None
        for timed in self._decoded():
            while current is not None and index < wanted.count:
                if wanted.moment(index) >= timed.time:
                    break
                picture = self._picture(current.frame) if picture is None else picture
                yield picture
                index += 1
            current, picture = timed, None
        if current is None:
            raise CutOff("no frame of it can be decoded")
        if not self._complete:
            raise CutOff(f"it is cut off, and only {max(index, 1)} frames can be read")
        while index < wanted.count:
            picture = self._picture(current.frame) if picture is None else picture
            yield picture
            index += 1

    def _decoded(self) -> Iterator[TimedFrame]:
        """Every frame of the track, in the order in which they are shown."""
        import av

        count = 0
        with av.open(str(self._path), format=self._demuxer, metadata_errors="ignore") as file:
            stream = self._stream(file)
            stream.thread_type = "AUTO"
            decoder = self._decoder(stream)
            try:
                for packet in file.demux(stream):
                    if packet.is_corrupt:
                        return
                    for frame in decoder.decode(packet):
                        time = frame.pts if frame.pts is not None else frame.dts
                        by_count = count / self.timing.rate + self.timing.start
                        yield TimedFrame(by_count if time is None else time * self.tick, frame)
                        count += 1
            except av.error.EOFError:
                return
            except av.error.FFmpegError as problem:
                raise CutOff(f"after {count} frames it is damaged ({problem.strerror})") from None

    @staticmethod
    def _decoder(stream: Any) -> Any:
        """The decoder of a track; one that knows alpha for a WebM that has it."""
        import av

        context = stream.codec_context
        name = ALPHA_DECODERS.get(context.codec.name)
        if stream.metadata.get("alpha_mode") != "1" or name not in av.codec.codecs_available:
            return context
        decoder = av.CodecContext.create(name, "r")
        decoder.extradata = context.extradata
        return decoder

    def _picture(self, frame: Any) -> Picture:
        """One frame in sRGB, with square pixels and upright."""
        width = frame.width
        if 0.2 < self._pixel_ratio < 5:
            width = max(1, round(width * self._pixel_ratio))
        return _upright(frame_to_srgb(frame, width), frame)


def _upright(picture: Picture, frame: Any) -> Picture:
    """The frame as its display matrix says: phones store clips as the sensor lies."""
    import numpy as np

    data = frame.side_data.get("DISPLAYMATRIX") if frame.side_data else None
    if data is None:
        return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90) % 4))
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(data)[:36])
    if abs(b) > abs(a):  # x and y change places
        picture = picture.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    else:
        picture = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(picture)


class Animation:
    """A GIF, WebP, PNG or AVIF with several frames, which Pillow reads."""

    def __init__(self, path: Path, image: Any, tick: float) -> None:
        self._path, self._image = path, image
        # The first picture of an animated PNG may be one for programs that show no animation.
        self._skipped = 1 if getattr(image, "default_image", False) else 0
        times, end = [], 0.0
        last = 0.0
        for frame in self._sequence():
            frame.load()
            last = (frame.info.get("duration") or 100) / 1000  # as browsers play it
            times.append(end)
            end += last
        self.timing = timing(times, last, tick, len(times) / end)
        self._ends = [*times[1:], end]

    def _sequence(self) -> Iterator[Any]:
        from PIL import ImageSequence

        return islice(ImageSequence.Iterator(self._image), self._skipped, None)

    def frames(self, wanted: Timing) -> Iterator[Picture]:
        """The frames shown at the moments of a constant rate."""
        from runtime.files.image_decode import rgb_pixels

        index = 0
        for frame, end in zip(self._sequence(), self._ends, strict=True):
            is_last = end == self._ends[-1]
            if not is_last and wanted.moment(index) >= end:
                continue
            picture = rgb_pixels(frame.copy())
            while index < wanted.count and (is_last or wanted.moment(index) < end):
                yield picture
                index += 1
            if index >= wanted.count:
                return


class NotAClip(UserError):
    """A file that cannot be read as a clip."""

    def __init__(self, label: str, reason: object) -> None:
        super().__init__(
            f"{label} cannot be read as a clip: {reason}",
            help="give an MP4, WebM, WebP or GIF file",
        )
