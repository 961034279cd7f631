"""Files of pictures and clips: what is read back is what was written, whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from nodes.save import SaveFrames, SaveMedia
from runtime.errors import UserError
from runtime.media import (
    check_suffix,
    default_suffix,
    media_suffixes,
    quality_percent,
    read_image,
    to_numpy,
    write_frames,
    write_image,
)
from runtime.output import Destination, File
from runtime.values import Image, Video
from runtime.video import exact_rate, read_video, write_video
from runtime.whole import whole

Array = NDArray[np.uint8]
ROOT = Path(__file__).parents[1]


def scene(height: int, width: int, channels: int = 3, shift: int = 0) -> Array:
    """Smooth colours with a disc on them, `h w c`: what a codec keeps well."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [128 + 100 * np.sin((x * a + y * b + shift) / 40) for a, b in ((1, 0), (0, 1), (1, 1))]
    picture = np.stack([*waves, 255 * x / max(1, width - 1)], axis=-1)
    radius = (height if height < width else width) / 4
    disc = (x - width / 2 - shift) ** 2 + (y - height / 2) ** 2 < radius**2
    picture[disc, :3] = 200, 60, 40
    return picture[..., :channels].astype(np.uint8)


def clip(frames: int, height: int, width: int, channels: int = 3) -> Array:
    return np.stack([scene(height, width, channels, shift=i) for i in range(frames)])


def psnr(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    error = float(np.mean((np.float64(a) - np.float64(b)) ** 2))
    return float(10 * np.log10(255**2 / max(1e-9, error)))


def hidden(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.startswith(".")]


# Pictures


@pytest.mark.parametrize("size", [(1, 1), (63, 65), (128, 96)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_loses_nothing(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    pixels, path = scene(*size, channels), tmp_path / "deep/er/picture.png"
    write_image(pixels, path)
    expected = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels
    np.testing.assert_array_equal(read_image(path), expected)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".JPG"])
@pytest.mark.parametrize("size", [(1, 1), (63, 65), (128, 96)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_pictures_are_near(
    tmp_path: Path, suffix: str, size: tuple[int, int], channels: int
) -> None:
    pixels, path = scene(*size, channels), tmp_path / f"picture{suffix}"
    write_image(pixels, path, quality="high")
    expected = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels
    assert psnr(read_image(path), expected) > 30


def test_alpha(tmp_path: Path) -> None:
    pixels = scene(32, 48, 4)
    pixels[..., 3] = 0
    write_image(pixels, tmp_path / "clear.webp")
    assert not read_image(tmp_path / "clear.webp")[..., 3].any()
    write_image(pixels, tmp_path / "clear.jpg")
    assert (read_image(tmp_path / "clear.jpg") == 255).all()
    write_video([pixels], tmp_path / "clear.mp4", fps=8)
    assert (read_video(tmp_path / "clear.mp4")[0] > 250).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".mp4", "anim.webp"])
def test_quality_words_change_size(tmp_path: Path, suffix: str) -> None:
    frames = clip(5, 96, 128)
    frames[:, ::7, ::5] ^= 40

    def size(**options: Any) -> int:
        path = tmp_path / f"x{suffix}"
        if suffix in {".jpg", ".webp"}:
            write_image(frames[0], path, **options)
        else:
            write_video(frames, path, fps=16, **options)
        return path.stat().st_size

    sizes = [size(quality=word) for word in ("low", "medium", "high", "maximum")]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4
    assert size(quality="low", compression=90) == size(quality="high")
    assert size() == size(compression=50 if suffix == ".mp4" else 75)


def test_png_compression_changes_size_and_no_pixel(tmp_path: Path) -> None:
    pixels, sizes = scene(200, 200), {}
    for compression in (0, None, 100):
        path = tmp_path / f"{compression}.png"
        write_image(pixels, path, compression=compression)
        np.testing.assert_array_equal(read_image(path), pixels)
        sizes[compression] = path.stat().st_size
    assert sizes[0] > sizes[None] > sizes[100]


def test_quality_percent_names_what_is_wrong() -> None:
    assert quality_percent("default", None, 75) == 75
    assert quality_percent("high", 3, 75) == 3
    with pytest.raises(UserError, match=r'expects one of default, low.*got "hgih"') as caught:
        quality_percent("hgih", None, 75)
    assert caught.value.help == "did you mean `high`?"
    with pytest.raises(UserError, match="from 0 to 100, got 101"):
        quality_percent("default", 101, 75)


# Reading pictures


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reading_turns_pictures_upright(tmp_path: Path, orientation: int) -> None:
    upright = scene(40, 60)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), upright)


def test_reading_every_mode(tmp_path: Path) -> None:
    colour, path = Pillow.fromarray(scene(40, 60)), tmp_path / "x.png"
    grey = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Pillow.fromarray(grey).save(path)
    np.testing.assert_array_equal(read_image(path)[..., 1], np.arange(256).reshape(16, 16))
    colour.convert("LA").save(path)
    assert read_image(path).shape == (40, 60, 4)
    colour.convert("1").save(path)
    assert set(np.unique(read_image(path))) == {0, 255}
    palette = colour.quantize(16)
    palette.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(palette.convert("RGB")))
    palette.save(path, transparency=bytes(range(16)))
    assert read_image(path)[..., 3].max() <= 15
    colour.convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    assert psnr(read_image(tmp_path / "x.jpg"), np.asarray(colour)) > 30


def test_reading_errors(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_image(path)
        assert str(path) in caught.value.message
        assert caught.value.help
        return caught.value.message.removeprefix(str(path))

    assert refused(tmp_path / "none.png") == " does not exist"
    assert refused(tmp_path) == " is a folder, not a picture"
    (tmp_path / "text.png").write_text("a prompt")
    assert refused(tmp_path / "text.png") == " is no picture of a known format"
    (tmp_path / "empty.png").touch()
    assert refused(tmp_path / "empty.png") == " is no picture of a known format"
    Pillow.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    assert refused(tmp_path / "bomb.png").startswith(" has too many pixels (")
    write_image(scene(64, 64), tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    assert refused(tmp_path / "half.jpg").startswith(" is damaged: ")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it could mend
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_damaged_pictures_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"x{suffix}", np.random.default_rng(0)
    Pillow.fromarray(scene(48, 48)).save(path)
    good = path.read_bytes()
    for _ in range(300):
        data = bytearray(good)
        for place in rng.integers(0, min(len(data), 400), size=3):
            data[place] = rng.integers(256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
        try:
            assert read_image(path).shape[2] in {3, 4}
        except UserError as problem:
            assert str(path) in problem.message  # noqa: PT017  either outcome is right


# Clips


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
    with pytest.raises(UserError, match="`fps` expects a number above 0, got 0"):
        write_video(clip(2, 8, 8), tmp_path / "x.mp4", fps=0)
    with pytest.raises(UserError, match="`fps` expects a number above 0, got nan"):
        exact_rate(float("nan"))
    with pytest.raises(UserError, match=r'`x264_preset` expects one of .*, got "fats"'):
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


# Suffixes


def test_suffixes_that_fit() -> None:
    assert media_suffixes(1) == (".png", ".jpg", ".jpeg", ".webp", ".mp4", ".gif")
    assert media_suffixes(17) == (".mp4", ".gif", ".webp")
    assert (default_suffix(1), default_suffix(2)) == (".png", ".mp4")
    for frames in (1, 17):
        for suffix in media_suffixes(frames):
            check_suffix(suffix, frames)
            check_suffix(suffix.upper(), frames, 16)


@pytest.mark.parametrize(
    ("suffix", "frames", "fps", "message", "fix"),
    [
        (".png", 17, 16, '`output_file_name` ends in ".png", which cannot hold 17 frames',
         "17 frames can be saved as .mp4, .gif, .webp"),
        (".tga", 1, None, '`output_file_name` ends in ".tga", which is no format for pictures or '
         "clips", "a picture can be saved as .png, .jpg, .jpeg, .webp, .mp4, .gif"),
        (".gif", 17, 60, "`fps` is 60, but browsers play GIF files at 50 frames per second at most",
         "save as .mp4 or .webp, or ask for fewer frames per second"),
    ],
)  # fmt: skip
def test_suffixes_that_do_not_fit(
    suffix: str, frames: int, fps: float | None, message: str, fix: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_suffix(suffix, frames, fps)
    assert (caught.value.message, caught.value.help) == (message, fix)


def test_importing_needs_no_torch() -> None:
    code = (
        "import sys, runtime.media, runtime.video, runtime.whole\n"
        "runtime.media.check_suffix('.mp4', 17, 16.0)\n"
        "assert not {'torch', 'av', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# Whole files


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_exceptions_leave_the_old_file(tmp_path: Path, problem: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with whole(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert temporary.suffix == ".txt"
            temporary.write_text("new")
            raise problem

    with pytest.raises(problem):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]  # noqa: PTH208  names are compared


def test_an_interrupted_clip_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[Array]:
        yield from clip(5, 32, 32)
        raise KeyboardInterrupt

    for suffix in (".mp4", ".webp", ".gif"):
        with pytest.raises(KeyboardInterrupt):
            write_video(frames(), tmp_path / f"x{suffix}", fps=8)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_image(scene(8, 8), path)
    write_image(scene(9, 9), path)
    assert read_image(path).shape == (9, 9, 3)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_many_writers_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    threads = [
        threading.Thread(target=write_image, args=(scene(40 + i, 40), path)) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_image(path).shape[1:] == (40, 3)
    assert hidden(tmp_path) == []


KILLED = """
import sys
from pathlib import Path
import numpy as np
from runtime.media import write_frames, write_image
from runtime.video import write_video
frames = np.random.default_rng(0).integers(0, 256, (6, 160, 160, 3), dtype=np.uint8)
folder = Path(sys.argv[1])
write_image(frames[0], folder / "warm.png")
write_video(frames, folder / "warm.mp4", fps=16)
print("ready", flush=True)
for i in range(10000):
    write_image(frames[i % 6], folder / "picture.png")
    write_video(frames, folder / f"clip{i % 2}.mp4", fps=16)
    write_frames(frames, folder / f"frames{i}.npy")
"""


def start(code: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process that has printed `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_killed_at_a_random_moment(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        with start(KILLED, folder) as process:
            time.sleep(rng.uniform(0, 0.15))
            process.kill()
        for path in folder.glob("[!.]*"):
            if path.suffix == ".npy":
                assert np.load(path).shape == (6, 160, 160, 3)
            elif path.suffix == ".png":
                assert read_image(path).shape == (160, 160, 3)
            else:
                assert read_video(path)[0].shape == (6, 160, 160, 3)


HALFWAY = """
import sys, time
from pathlib import Path
from runtime.whole import whole
with whole(Path(sys.argv[1]) / "x.bin") as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_halfway(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    with start(HALFWAY, tmp_path) as process:
        process.send_signal(sent)
    assert (tmp_path / "x.bin").read_bytes() == b"old"
    assert len(hidden(tmp_path)) == (0 if sent == signal.SIGINT else 1)


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            write_image(scene(4, 4), path)
        assert caught.value.help
        return caught.value.message

    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    under = tmp_path / "file/x.png"
    assert refused(under) == f"cannot write {under}: a part of its path is a file"
    deep = tmp_path / "file/deep/er/x.png"
    assert refused(deep) == f"cannot write {deep}: a part of its path is a file"
    taken = tmp_path / "folder.png"
    assert refused(taken) == f"cannot write {taken}: a folder has that name"
    long = tmp_path / ("x" * 300 + ".png")
    assert refused(long) == f"cannot write {long}: the name is too long"
    proc = Path("/proc/folder/x.png")
    assert refused(proc) == f"cannot write {proc}: its folder cannot be created"
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the disk is read-only"),
    ],
    ids=errno.errorcode.get,
)
def test_failing_disks_are_named(tmp_path: Path, code: int, reason: str) -> None:
    path = tmp_path / "x.bin"
    with pytest.raises(UserError, match=reason) as caught, whole(path):
        raise OSError(code, os.strerror(code))
    assert caught.value.message == f"cannot write {path}: {reason}"


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from runtime.errors import UserError
from runtime.media import write_frames, write_image
from runtime.video import write_video
frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
folder = Path(sys.argv[1])
writers = {
    ".png": lambda path: write_image(frames[0], path),
    ".jpg": lambda path: write_image(frames[0], path),
    ".webp": lambda path: write_image(frames[0], path),
    ".mp4": lambda path: write_video(frames, path, fps=16),
    ".gif": lambda path: write_video(frames, path, fps=16),
    ".npy": lambda path: write_frames(frames, path),
}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for suffix, write in writers.items():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    write(folder / f"good{suffix}")
    size = (folder / f"good{suffix}").stat().st_size
    for limit in (0, 1, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(folder / f"cut{suffix}")
        except UserError as problem:
            assert "larger than the system allows" in problem.message, problem
        else:
            raise SystemExit(f"{suffix} cut to {limit} of {size} bytes passed for whole")
"""


def test_writes_cut_short_are_noticed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], check=True, cwd=ROOT)
    assert {path.stem for path in tmp_path.iterdir()} == {"good"}


def test_other_failures_of_the_system_stay_themselves(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output") as caught, whole(tmp_path / "x.bin"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert caught.value.errno == errno.EIO


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permission_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="permission denied"):
        write_image(scene(4, 4), tmp_path / "x.png")


# Nodes


def test_pixels_of_tensors_are_not_copied() -> None:
    tensor = torch.zeros(2, 3, 4, 3, dtype=torch.uint8)
    assert to_numpy(tensor).ctypes.data == tensor.data_ptr()
    with pytest.raises(TypeError, match="float32"):
        to_numpy(torch.zeros(1))


@pytest.mark.parametrize("node", [SaveMedia, SaveFrames])
def test_ports_can_be_read(node: type[SaveMedia | SaveFrames]) -> None:
    hints = get_type_hints(node.run)
    assert hints == {"media": Image | Video, "to": Destination, "return": node.Out}
    assert get_type_hints(node.Out) == {"file": File}


@pytest.mark.parametrize(
    ("frames", "suffix", "name", "media_type"),
    [
        (0, "", "x.png", "image/png"),
        (0, ".jpg", "x.jpg", "image/jpeg"),
        (0, ".mp4", "x.mp4", "video/mp4"),
        (1, "", "x.png", "image/png"),
        (1, ".webp", "x.webp", "image/webp"),
        (1, ".mp4", "x.mp4", "video/mp4"),
        (1, ".gif", "x.gif", "image/gif"),
        (5, "", "x.mp4", "video/mp4"),
        (5, ".gif", "x.gif", "image/gif"),
        (5, ".webp", "x.webp", "image/webp"),
    ],
)  # fmt: skip
def test_save_media(tmp_path: Path, frames: int, suffix: str, name: str, media_type: str) -> None:
    pixels = torch.from_numpy(clip(max(1, frames), 33, 40))
    media = Video(pixels, fps=16.0) if frames else Image(pixels[0])
    file = SaveMedia().run(media=media, to=Destination(tmp_path / "new", "x", suffix)).file
    assert file == File(tmp_path / "new" / name, media_type, file.path.stat().st_size)
    if file.path.suffix in {".mp4", ".gif"} or frames > 1:
        found, rate = read_video(file.path)
        assert found.shape == tuple(pixels.shape)
        if frames > 1:
            assert rate == pytest.approx(16, abs=0.3)
    else:
        assert read_image(file.path).shape == (33, 40, 3)


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_save_frames(tmp_path: Path, frames: int) -> None:
    pixels = torch.from_numpy(clip(max(1, frames), 33, 40)).flip(-1)
    media = Video(pixels, fps=16.0) if frames else Image(pixels[0])
    file = SaveFrames().run(media=media, to=Destination(tmp_path, "x", ".png")).file
    assert (file.path, file.media_type) == (tmp_path / "x.npy", "application/octet-stream")
    loaded = np.load(file.path)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, pixels.numpy())


def test_saving_passes_the_quality_on(tmp_path: Path) -> None:
    def size(frames: int, **options: Any) -> int:
        media = Video(torch.from_numpy(clip(frames, 64, 64)), fps=16.0)
        to = Destination(tmp_path, "x", ".webp" if frames == 1 else ".mp4", **options)
        return SaveMedia().run(media=media, to=to).file.size

    for frames in (1, 5):
        assert size(frames, quality="low") < size(frames, quality="high")
        assert size(frames, compression=90) == size(frames, quality="high")
    assert size(5, x264_preset="ultrafast") != size(5)


def test_saving_refuses_a_suffix_that_does_not_fit(tmp_path: Path) -> None:
    media = Video(torch.zeros(17, 8, 8, 3, dtype=torch.uint8), fps=16.0)
    with pytest.raises(UserError, match=r'ends in ".png", which cannot hold 17 frames'):
        SaveMedia().run(media=media, to=Destination(tmp_path, "x", ".png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "", "x\0", "..\\x"])
@pytest.mark.parametrize("node", [SaveMedia(), SaveFrames()])
def test_saving_stays_in_its_folder(
    tmp_path: Path, name: str, node: SaveMedia | SaveFrames
) -> None:
    media = Image(torch.zeros(8, 8, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="no plain file name"):
        node.run(media=media, to=Destination(tmp_path / "folder", name))
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x.png").symlink_to(tmp_path / "outside.png")
    media = Image(torch.zeros(8, 8, 3, dtype=torch.uint8))
    SaveMedia().run(media=media, to=Destination(tmp_path / "folder", "x"))
    assert (tmp_path / "outside.png").read_text() == "mine"


def test_frames_files_are_whole(tmp_path: Path) -> None:
    write_frames(clip(2, 8, 8), tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").shape == (2, 8, 8, 3)
    assert hidden(tmp_path) == []
