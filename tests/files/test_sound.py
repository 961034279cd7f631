"""The sound of an MP4: as long as the clip, at its own rate, whatever the frames come from."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from nodes.save import SaveMedia
from runtime.contract.calls import Asking, answer
from runtime.contract.outputs import Destination
from runtime.contract.values import Audio, Image, Video, VideoStream
from runtime.files.video_files import read_video, write_video
from tests.support.scenes import Array, clip


def tones(count: int, rate: int, channels: int = 2) -> Audio:
    """A tone per channel, louder than a file can hold."""
    time = torch.arange(count) / rate
    waves = [torch.sin(2 * torch.pi * pitch * time) for pitch in (440, 660)]
    return Audio(1.2 * torch.stack(waves[:channels]), rate)


def heard(path: Path) -> tuple[Array, int, Fraction]:
    """Samples c n of the one sound of a file, their rate, and its length in seconds."""
    with av.open(str(path)) as file:
        (stream,) = file.streams.audio
        assert stream.codec_context.name == "aac"
        assert stream.duration is not None
        assert stream.time_base is not None
        seconds = stream.duration * stream.time_base
        parts = [frame.to_ndarray() for frame in file.decode(stream)]
        return np.concatenate(parts, axis=1), stream.rate, seconds


@pytest.mark.parametrize(
    ("count", "rate", "channels", "fps"),
    [
        (24000, 24000, 2, 24.0),  # half of it is beyond the clip
        (8000, 48000, 2, 23.976),  # silence follows
        (16000, 16000, 1, 30.0),
        (500, 24000, 2, 24.0),  # less than the encoder takes at once
    ],
)
def test_sound_is_as_long_as_the_clip(
    tmp_path: Path, count: int, rate: int, channels: int, fps: float
) -> None:
    path = tmp_path / "clip.mp4"
    audio = tones(count, rate, channels)
    write_video(clip(12, 32, 48), path, fps=fps, audio=audio)
    samples, found, seconds = heard(path)
    assert (len(samples), found) == (channels, rate)
    assert float(seconds) == pytest.approx(12 / fps, abs=1 / rate)
    assert len(read_video(path)[0]) == 12
    common = min(count, round(12 / fps * rate))
    wanted = audio.samples.numpy()[:, :common].clip(-1, 1)
    assert np.corrcoef(samples[:, :common].ravel(), wanted.ravel())[0, 1] > 0.98
    assert np.abs(samples[:, common + 2048 :]).max(initial=0) < 0.01


@pytest.mark.parametrize("count", [1, 9])
def test_a_stream_has_its_sound(tmp_path: Path, count: int) -> None:
    frames = torch.from_numpy(clip(count, 32, 48))

    def parts() -> Iterator[Asking[Tensor]]:
        def ask(part: Tensor) -> Asking[Tensor]:
            yield []
            return part

        for part in torch.split(frames, 4):
            yield ask(part)

    audio, fps = tones(24000, 24000), 24.0
    to = Destination(tmp_path, "stream", ".mp4")
    file = answer(SaveMedia().run(media=VideoStream(parts, count, fps), to=to, audio=audio)).file
    at_once = answer(
        SaveMedia().run(
            media=Video(frames, fps), to=Destination(tmp_path, "whole", ".mp4"), audio=audio
        )
    ).file
    for a, b in zip(heard(file.path), heard(at_once.path), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_what_cannot_hold_sound_leaves_it_out(tmp_path: Path, suffix: str) -> None:
    frames = torch.from_numpy(clip(5, 32, 48))
    media = Image(frames[0]) if suffix == ".png" else Video(frames, 24.0)
    to, plain = (Destination(tmp_path, name, suffix) for name in ("sound", "silence"))
    first = answer(SaveMedia().run(media=media, to=to, audio=tones(4800, 24000))).file
    second = answer(SaveMedia().run(media=media, to=plain)).file
    assert first.path.read_bytes() == second.path.read_bytes()
