"""Files of pictures: what is read back is what was written."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from runtime.errors import UserError
from runtime.files.image_files import (
    check_suffix,
    default_suffix,
    media_suffixes,
    quality_percent,
    read_image,
    to_numpy,
    write_image,
)
from runtime.files.video_files import read_video, write_video
from tests.support.scenes import clip, hidden, psnr, scene

ROOT = Path(__file__).parents[2]


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


def test_pixels_of_tensors_are_not_copied() -> None:
    tensor = torch.zeros(2, 3, 4, 3, dtype=torch.uint8)
    assert to_numpy(tensor).ctypes.data == tensor.data_ptr()
    with pytest.raises(TypeError, match="float32"):
        to_numpy(torch.zeros(1))


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
    assert refused(tmp_path / "text.png").startswith(" is a text, which is not a picture")
    (tmp_path / "empty.png").touch()
    assert refused(tmp_path / "empty.png").startswith(" is an empty file, which is not")
    Pillow.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    assert refused(tmp_path / "bomb.png").startswith(" has too many pixels; 178 million")
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
        (".png", 17, 16, '`output.file_name` ends in ".png", which cannot hold 17 frames',
         "17 frames can be saved as .mp4, .gif, .webp"),
        (".tga", 1, None, '`output.file_name` ends in ".tga", which is not a format for '
         "pictures or clips", "a picture can be saved as .png, .jpg, .jpeg, .webp, .mp4, .gif"),
        (".gif", 17, 60,
         "`request.fps` is 60, but browsers play GIF at 50 frames per second at most",
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
        "import sys, runtime.files.image_files, runtime.files.video_files\n"
        "runtime.files.image_files.check_suffix('.mp4', 17, 16.0)\n"
        "assert not {'torch', 'av', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
