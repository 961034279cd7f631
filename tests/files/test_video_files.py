"""Files of clips: exact in size, rate and number of frames, near in colour."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from runtime.errors import UserError
from runtime.files.image_files import write_image
from runtime.files.video_files import exact_rate, read_video, write_video
from tests.support.scenes import Array, clip, psnr, scene


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (16, Fraction(16)),
        (24.0, Fraction(24)),
        (23.976, Fraction(2997, 125)),
        (30000 / 1001, Fraction(30000, 1001)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (0.5, Fraction(1, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 2, 17])
def test_mp4_rate_and_count_are_exact(
    tmp_path: Path, fps: float, rate: Fraction, count: int
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(clip(count, 32, 48), path, fps=fps)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == rate
        assert stream.duration * stream.time_base == count / rate
        times = [frame.pts * frame.time_base for frame in file.decode(stream)]
    assert times == [i / rate for i in range(count)]


@pytest.mark.parametrize(
    ("height", "width", "layout"),
    [
        (1, 1, "yuv444p"),
        (2, 2, "yuv420p"),
        (63, 65, "yuv444p"),
        (127, 130, "yuv444p"),
        (129, 127, "yuv444p"),
        (96, 100, "yuv420p"),
    ],
)
def test_mp4_sizes_are_exact(tmp_path: Path, height: int, width: int, layout: str) -> None:
    path = tmp_path / "clip.mp4"
    write_video(clip(3, height, width), path, fps=16)
    assert read_video(path)[0].shape == (3, height, width, 3)
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.pix_fmt == layout
        assert file.streams.video[0].codec_context.name == "h264"


@pytest.mark.parametrize("size", [(128, 160), (127, 129)], ids=str)
def test_mp4_colours_are_near_and_tagged(tmp_path: Path, size: tuple[int, int]) -> None:
    frames, path = clip(9, *size), tmp_path / "clip.mp4"
    write_video(frames, path, fps=16, quality="high")
    assert psnr(read_video(path)[0], frames) > 35
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        found = (context.colorspace, context.color_range, context.color_primaries)
        assert (*map(int, found), int(context.color_trc)) == (6, 1, 1, 13)


def test_mp4_starts_with_its_index(tmp_path: Path) -> None:
    write_video(clip(9, 64, 64), tmp_path / "clip.mp4", fps=16)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_default_quality_of_clips_is_crf_25(tmp_path: Path) -> None:
    write_video(clip(2, 64, 64), tmp_path / "clip.mp4", fps=16)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert b"crf=25.0" in data
    write_video(clip(2, 64, 64), tmp_path / "clip.mp4", fps=16, quality="high", preset="slow")
    assert b"crf=5.0" in (tmp_path / "clip.mp4").read_bytes()


@pytest.mark.parametrize("size", [(1, 1), (63, 65), (96, 128)], ids=str)
@pytest.mark.parametrize(("suffix", "near"), [(".gif", 25), (".webp", 30)])
@pytest.mark.parametrize("fps", [16, 23.976, 10])
def test_animations(
    tmp_path: Path, size: tuple[int, int], suffix: str, near: int, fps: float
) -> None:
    frames, path = clip(17, *size), tmp_path / f"clip{suffix}"
    frames[:, 0, 0] = np.arange(17)[:, None] * 15  # formats may merge equal frames
    write_video(iter(frames), path, fps=fps, quality="high")
    found, rate = read_video(path)
    assert psnr(found, frames) > near or size == (1, 1)
    assert rate == pytest.approx(fps, abs=0.1)
    with Pillow.open(path) as image:
        assert image.info["loop"] == 0


def test_frames_are_streamed(tmp_path: Path) -> None:
    alive = most = 0

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def frames() -> Iterator[Array]:
        nonlocal alive, most
        for i in range(60):
            alive += 1
            most = max(most, alive)
            yield scene(32, 32, shift=i).view(Counted)

    write_video(frames(), tmp_path / "clip.mp4", fps=16)
    assert len(read_video(tmp_path / "clip.mp4")[0]) == 60
    assert most <= 4


def test_clip_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`request\.fps` expects a number above 0, got 0"):
        write_video(clip(2, 8, 8), tmp_path / "x.mp4", fps=0)
    with pytest.raises(UserError, match=r"`request\.fps` expects a number above 0, got nan"):
        exact_rate(float("nan"))
    with pytest.raises(UserError, match=r'`output.x264_preset` expects one of .*, got "fats"'):
        write_video(clip(2, 8, 8), tmp_path / "x.mp4", fps=8, preset="fats")
    with pytest.raises(ValueError, match="frames differ in shape"):
        write_video([scene(8, 8), scene(8, 10)], tmp_path / "x.mp4", fps=8)
    with pytest.raises(ValueError, match="no frames"):
        write_video([], tmp_path / "x.mp4", fps=8)
    with pytest.raises(UserError, match="at most 16383 pixels a side, got 2x16384"):
        write_image(np.zeros((16384, 2, 3), np.uint8), tmp_path / "x.webp")
    assert list(tmp_path.iterdir()) == []
    for name, content in (("text.mp4", b"a prompt"), ("text.gif", b"GIF89a"), ("x.webp", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} cannot be read as a clip"):
            read_video(tmp_path / name)
    with pytest.raises(UserError, match=r"none\.mp4 does not exist"):
        read_video(tmp_path / "none.mp4")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it could mend
@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_damaged_clips_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"x{suffix}", np.random.default_rng(0)
    write_video(clip(4, 32, 32), path, fps=16)
    good = path.read_bytes()
    for _ in range(100):
        data = bytearray(good)
        for place in rng.integers(0, min(len(data), 900), size=3):
            data[place] = rng.integers(256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
        try:
            assert read_video(path)[0].shape[3] == 3
        except UserError as problem:
            assert str(path) in problem.message  # noqa: PT017  either outcome is right


def test_an_interrupted_clip_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[Array]:
        yield from clip(5, 32, 32)
        raise KeyboardInterrupt

    for suffix in (".mp4", ".webp", ".gif"):
        with pytest.raises(KeyboardInterrupt):
            write_video(frames(), tmp_path / f"x{suffix}", fps=8)
    assert list(tmp_path.iterdir()) == []
