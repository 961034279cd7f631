"""Kind 4 of issue 10: the colours, depth and transparency of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from runtime.files.video_files import read_video, write_video
from tests.field.encode_clip import encode, shades
from tests.support.scenes import clip, psnr


def test_five_rounds_of_writing_and_reading_do_not_drift(tmp_path: Path) -> None:
    """C19."""
    flat = np.random.default_rng(0).integers(0, 256, (64, 3))
    first = np.repeat(flat[None, None, :], 32, axis=2).reshape(1, 1, 2048, 3).astype(np.uint8)
    frames = np.broadcast_to(first, (2, 32, 2048, 3))
    for _ in range(5):
        write_video(frames, tmp_path / "clip.mp4", fps=16, quality="maximum")
        frames, _ = read_video(tmp_path / "clip.mp4")
        difference = frames[0, 16, 16::32].astype(int) - flat
        assert np.abs(difference).max() <= 2
        assert abs(difference.mean()) < 0.3


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("matrix", "tag"), [(1, 1), (5, 5), (5, 6), (7, 7)], ids=["709", "470bg", "601", "240m"]
)
def test_colour_matrices_and_ranges(matrix: int, tag: int, full: bool, tmp_path: Path) -> None:
    """C19."""
    flat = np.array([[200, 30, 40], [20, 180, 60], [40, 60, 220], [250, 250, 250], [9, 9, 9]])
    frames = [np.broadcast_to(c.astype(np.uint8), (64, 64, 3)) for c in flat]
    tags = {"colorspace": tag, "color_range": 2 if full else 1}
    path = tmp_path / "clip.mp4"
    encode(path, frames, tags=tags, matrix=matrix, full=full, pix_fmt="yuv444p")
    found, _ = read_video(path)
    assert np.abs(found[:, 32, 32].astype(int) - flat).max() <= 3


def test_untagged_clips_are_taken_as_players_do(tmp_path: Path) -> None:
    red = np.broadcast_to(np.array([200, 30, 40], np.uint8), (720, 64, 3))
    for height, matrix in ((720, 1), (480, 5)):
        encode(tmp_path / "clip.mp4", [red[:height]], matrix=matrix, tags={"colorspace": 2})
        found, _ = read_video(tmp_path / "clip.mp4")
        assert np.abs(found[0, 100, 32].astype(int) - (200, 30, 40)).max() <= 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("libx264", "yuv420p10le", "clip.mp4"), ("libx265", "yuv420p10le", "clip.mov"),
        ("libx264", "yuv422p", "clip.mkv"), ("png", "rgb24", "clip.mov"),
        ("ffv1", "gbrp10le", "clip.mkv"), ("prores_ks", "yuv422p10le", "clip.mov"),
        ("mjpeg", "yuvj420p", "clip.avi"), ("libvpx-vp9", "yuv420p", "clip.webm"),
        ("mpeg4", "yuv420p", "clip.avi"), ("mpeg2video", "yuv420p", "clip.ts"),
    ],
)  # fmt: skip
def test_depths_and_codecs(codec: str, pix_fmt: str, name: str, tmp_path: Path) -> None:
    frames, path = clip(4, 64, 96), tmp_path / name
    options = {"crf": "4", "b": "0"} if "vp9" in codec else {}
    if codec in {"mjpeg", "mpeg4", "mpeg2video"}:
        options = {"b": "8M"}
    if codec == "libx265":
        options = {"x265-params": "log-level=none:crf=4"}
    encode(path, frames, codec=codec, pix_fmt=pix_fmt, options=options)
    found, rate = read_video(path)
    assert rate == pytest.approx(25)
    assert psnr(found, frames) > 28


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_hdr_is_shown_as_sdr(transfer: int, tmp_path: Path) -> None:
    """Phones film in HLG: taken for sRGB its colours are pale and its whites grey."""
    levels = np.linspace(0, 255, 12).astype(np.uint8)
    frames = [np.full((64, 64, 3), level, np.uint8) for level in levels]
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    encode(tmp_path / "clip.mp4", frames, pix_fmt="yuv420p10le", tags=tags, matrix=9)
    found, _ = read_video(tmp_path / "clip.mp4")
    grey = shades(found)
    assert grey == sorted(grey)
    assert grey[0] <= 2
    assert grey[-1] >= 250
    assert len(set(grey)) > 6
    assert np.ptp(found[:, 32, 32].astype(int), axis=1).max() <= 3  # grey stays grey


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("prores_ks", "yuva444p10le", "clip.mov"), ("qtrle", "argb", "clip.mov"),
        ("png", "rgba", "clip.mov"), ("ffv1", "yuva420p", "clip.mkv"),
        ("libvpx-vp9", "yuva420p", "clip.webm"),
    ],
)  # fmt: skip
def test_transparency_is_shown_on_white(
    codec: str, pix_fmt: str, name: str, tmp_path: Path
) -> None:
    frames = np.zeros((3, 64, 64, 4), np.uint8)
    frames[:, :, 32:] = (60, 60, 60, 255)
    encode(tmp_path / name, list(frames), codec=codec, pix_fmt=pix_fmt, options={})
    found, _ = read_video(tmp_path / name)
    assert np.abs(found[:, 32, 8].astype(int) - 255).max() <= 4
    assert np.abs(found[:, 32, 56].astype(int) - 60).max() <= 6


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif", "clip.png"])
def test_transparent_animations_are_shown_on_white(name: str, tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (16, 16), (0, 0, 0, 0)) for _ in range(3)]
    for index, frame in enumerate(frames):
        ImageDraw.Draw(frame).ellipse((0, 4, 8, 12), (90, 10 * index, 0, 255))
    if name == "clip.webp":
        pixels, lossless = [np.asarray(frame) for frame in frames], {"lossless": "1"}
        codec = "libwebp_anim"
        encode(tmp_path / name, pixels, codec=codec, pix_fmt="bgra", rate=10, options=lossless)
    else:
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], duration=100, disposal=2
        )
    found, rate = read_video(tmp_path / name)
    assert len(found) == 3
    assert rate == pytest.approx(10)
    assert found[:, 8, 12].min() == 255
    assert np.abs(found[2, 8, 4].astype(int) - (90, 20, 0)).max() <= 2
