"""Kind 4 of issue 10: clips as people film them are read as players show them."""

from __future__ import annotations

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from runtime.errors import UserError
from runtime.files.frame_timing import timing
from runtime.files.input_pictures import check_clip, read_clip
from runtime.files.video_files import check_video, read_video, write_video
from tests.field.encode_clip import colours, encode, shades
from tests.support.scenes import clip, psnr

ONE = 1 << 16
MATRICES = {
    "right": (0, ONE, 0, -ONE, 0, 0),
    "left": (0, -ONE, 0, ONE, 0, 0),
    "down": (-ONE, 0, 0, 0, -ONE, 0),
    "mirrored": (-ONE, 0, 0, 0, ONE, 0),
    "upright": (ONE, 0, 0, 0, ONE, 0),
}


@pytest.mark.parametrize("way", MATRICES)
def test_clips_are_read_upright(way: str, tmp_path: Path) -> None:
    """C02: a phone stores its clips as its sensor lies, and says how to turn them."""
    frames, path = clip(3, 64, 96), tmp_path / "clip.mp4"
    write_video(frames, path, fps=16, quality="maximum")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", *MATRICES[way], 0, 0, 1 << 30)
    path.write_bytes(data)
    turned = {
        "right": np.rot90(frames, 3, (1, 2)),
        "left": np.rot90(frames, 1, (1, 2)),
        "down": frames[:, ::-1, ::-1],
        "mirrored": frames[:, :, ::-1],
        "upright": frames,
    }[way]
    found, rate = read_video(path)
    assert (found.shape, rate) == (turned.shape, 16)
    assert psnr(found, turned) > 35


def test_a_variable_frame_rate_keeps_time(tmp_path: Path) -> None:
    """A frame is shown until the next one: what lasts long fills several frames."""
    path = tmp_path / "clip.mp4"
    encode(path, colours(6), times=[0, 33, 67, 200, 233, 300])
    found, rate = read_video(path)
    assert rate == pytest.approx(30, abs=0.6)
    steps = shades(found)
    assert len(steps) == pytest.approx(10, abs=1)
    assert steps[3:6] == [steps[2]] * 3  # shown from 67 to 200 ms
    assert len(set(steps)) == 6


def test_a_pause_of_a_recording_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "screen.mkv"
    encode(path, colours(4), times=[0, 40, 1040, 1080])
    found, rate = read_video(path)
    assert len(found) / rate == pytest.approx(1.12, abs=0.05)
    assert shades(found).count(shades(found)[5]) >= 20


def test_merged_frames_of_animations_are_given_back(tmp_path: Path) -> None:
    frames = colours(17, 32, 32)
    frames[5:12] = frames[5]
    for name in ("clip.webp", "clip.gif"):
        write_video(frames, tmp_path / name, fps=16, quality="maximum")
        found, rate = read_video(tmp_path / name)
        assert len(found) == 17
        assert rate == pytest.approx(16, rel=0.02)
        assert np.abs(np.diff(shades(found)[5:12])).max() == 0


@pytest.mark.parametrize("fps", [7, 16, 23.976, 24, 30, 50, 60])
def test_lengths_of_webp_are_exact(fps: float, tmp_path: Path) -> None:
    """C20."""
    write_video(clip(17, 32, 48), tmp_path / "clip.webp", fps=fps)
    with Image.open(tmp_path / "clip.webp") as image:
        length = 0
        for frame in ImageSequence.Iterator(image):
            frame.load()
            length += frame.info["duration"]
    assert length == pytest.approx(17000 / fps, abs=1)


@pytest.mark.parametrize("fps", [12.5, 16, 25, 50])
def test_another_frame_rate_keeps_the_speed(fps: float, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, colours(25))  # a second
    found, rate = read_clip(check_clip(str(path)), "x", "x", fps=fps)
    assert (len(found), rate) == (round(fps), fps)
    grey = shades(found)
    assert grey == sorted(grey)
    assert grey[-1] - grey[0] > 190


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip.webp"])
def test_memory_is_bounded_by_the_frames_that_are_needed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".webm"):
        encode(path, colours(120, 128, 256), codec="libvpx", options={"b": "1M"})
    else:
        write_video(colours(120, 128, 256), path, fps=25)
    whole, _ = read_video(path)
    tracemalloc.start()
    found, _ = read_video(path, num_frames=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, whole[:5])
    assert peak < 5 * found[0].nbytes + 20 * found[0].nbytes


def sound(file: Any) -> None:
    """A track of sound, before the pictures."""
    stream = file.add_stream("aac", rate=24000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.float32), "fltp", "mono")
    frame.sample_rate = 24000
    file.mux(stream.encode(frame))
    file.mux(stream.encode())


def test_sound_before_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        sounds = [file.add_stream("aac", rate=24000) for _ in range(2)]
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for track in sounds:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.float32), "fltp", "mono")
            frame.sample_rate = 24000
            file.mux(track.encode(frame))
            file.mux(track.encode())
        for pixels in colours(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    assert read_video(path)[0].shape == (5, 64, 96, 3)


def test_sound_alone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as file:
        sound(file)
    with pytest.raises(UserError, match="cannot be read as a clip: it has no video track"):
        read_video(path)


def test_of_two_video_tracks_the_default_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        streams = []
        for size in (32, 64):
            stream = file.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = size, size, "yuv420p"
            streams.append(stream)
        streams[0].disposition = 0
        streams[1].disposition = av.stream.Disposition.default
        for stream in streams:
            for pixels in colours(3, stream.height, stream.width):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            file.mux(stream.encode())
    assert read_video(path)[0].shape == (3, 64, 64, 3)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, clip(3, 64, 48), tags={"sample_aspect_ratio": Fraction(4, 3)})
    assert read_video(path)[0].shape == (3, 64, 64, 3)


@pytest.mark.parametrize(
    ("written", "name"),
    [("clip.webp", "a.mp4"), ("clip.mp4", "a.gif"), ("clip.mp4", "a.webp"), ("clip.gif", "a.mp4"),
     ("clip.mp4", "clip"), ("clip.webp", "a.png"), ("clip.mp4", "a.jpg")],
)  # fmt: skip
def test_clips_are_known_by_content(written: str, name: str, tmp_path: Path) -> None:
    """N08."""
    write_video(colours(5), tmp_path / written, fps=10)
    (tmp_path / written).rename(tmp_path / name)
    found, rate = read_video(tmp_path / name)
    assert len(found) == 5
    assert rate == pytest.approx(10)
    assert check_video(tmp_path / name) == Path(written).suffix


def test_an_index_that_is_missing_is_told(tmp_path: Path) -> None:
    """A camera writes the index when the recording ends."""
    path = tmp_path / "clip.mp4"
    encode(path, colours(20))  # its index is at its end
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(UserError, match="its index is missing"):
        read_video(path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_clip_that_is_cut_off_is_read_as_far_as_needed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), dtype=np.uint8)
    if name == "clip.mp4":
        write_video(noise, path, fps=25)  # its index is at its beginning
    else:
        encode(path, noise, options={})
    whole, _ = read_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    np.testing.assert_array_equal(read_video(path, num_frames=5)[0], whole[:5])
    if name == "clip.mp4":
        with pytest.raises(UserError, match=r"cut off|damaged"):
            read_video(path)
        with pytest.raises(UserError, match=r"cut off|damaged"):
            read_video(path, num_frames=29)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"<html>", "an HTML page"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"PK\3\4", "a ZIP archive"),
        (b"GIF89a", "a GIF picture that cannot be decoded"),
        (bytes(2000), ""),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(50), "its index is missing"),
    ],
)
def test_what_is_no_clip_is_named(data: bytes, reason: str, tmp_path: Path) -> None:
    """N08 and its siblings."""
    (tmp_path / "clip.mp4").write_bytes(data)
    for read in (read_video, check_video):
        with pytest.raises(UserError) as caught:
            read(tmp_path / "clip.mp4")
        assert "cannot be read as a clip: " in caught.value.message
        assert reason in caught.value.message
        assert "Errno" not in caught.value.message


def test_a_still_picture_is_no_clip(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="it is a PNG picture"):
        check_clip(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("times", "rate", "count"),
    [
        ([i / 25 for i in range(9)], 25, 9),
        ([i * 1001 / 30000 for i in range(9)], 30000 / 1001, 9),
        ([0, 0.06, 0.13, 0.19, 0.25, 0.31], 16, 6),  # GIF
        ([0, 0.04, 0.12, 0.16], 25, 5),  # a dropped frame
        ([0], 25, 1),
    ],
)
def test_constant_rates_are_found(times: list[float], rate: float, count: int) -> None:
    found = timing(times, 1 / rate, 0.01 if 0.06 in times else 0.001, rate if count == 9 else 0)
    assert found.count == count
    assert found.rate == pytest.approx(rate, rel=0.02)
