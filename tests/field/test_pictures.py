"""Kind 3 of issue 10: pictures are known by content, everywhere by one table."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from runtime.configure.request_values import large_pictures
from runtime.contract.values import Image as Picture
from runtime.errors import UserError
from runtime.files.image_decode import SAME_COLOUR
from runtime.files.image_files import check_image, read_image
from runtime.files.image_formats import IMAGE_FORMATS, readable_formats
from runtime.files.input_pictures import check_picture, read_picture
from runtime.provenance.read_back import base_name
from tests.support.scenes import Array, psnr, scene

RGB = scene(48, 64)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(data: bytes, folder: Path, name: str = "picture.bin") -> Array:
    """Pixels as a request gets them; the file's name tells nothing."""
    path = folder / name
    path.write_bytes(data)
    return read_picture(check_picture(path), "`image_path`", "request.image_path")


def refused(data: bytes, folder: Path, name: str = "picture.png") -> UserError:
    with pytest.raises(UserError) as caught:
        read(data, folder, name)
    assert caught.value.help
    return caught.value


def png(depth: int, colour: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, of a depth and colour type that Pillow does not write. rows: of 8 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 8, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", head), *(chunk(*c) for c in chunks), chunk(b"IDAT", pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


@pytest.mark.parametrize(
    ("kind", "options", "near"),
    [
        ("PNG", {}, 99), ("BMP", {}, 99), ("TIFF", {}, 99), ("PPM", {}, 99),
        ("TIFF", {"compression": "tiff_lzw"}, 99), ("TIFF", {"compression": "tiff_deflate"}, 99),
        ("WEBP", {"lossless": True}, 99), ("JPEG", {"quality": 95}, 30),
        ("JPEG", {"quality": 95, "progressive": True}, 30), ("AVIF", {"quality": 95}, 30),
        ("GIF", {}, 20),
    ],
)  # fmt: skip
def test_every_format_of_the_table_is_read_whatever_its_name(
    kind: str, options: dict[str, Any], near: int, tmp_path: Path
) -> None:
    """N10."""
    data = encoded(Image.fromarray(RGB), kind, **options)
    for name in ("picture.bin", "picture.png", "picture"):
        assert psnr(read(data, tmp_path, name), RGB) > near


def test_mpo_of_a_phone_is_its_first_picture(tmp_path: Path) -> None:
    """C01."""
    second = [Image.new("RGB", (64, 48), "blue")]
    data = encoded(Image.fromarray(RGB), "MPO", save_all=True, append_images=second, quality=95)
    assert psnr(read(data, tmp_path), RGB) > 30
    (tmp_path / "p.mpo").write_bytes(data)
    assert check_image(tmp_path / "p.mpo").suffix == ".jpg"


def test_heic_is_read_with_its_extra(tmp_path: Path) -> None:
    """N10."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    data = encoded(Image.fromarray(RGB), "HEIF", quality=95)
    assert psnr(read(data, tmp_path), RGB) > 30


def test_heic_without_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N10: the first bytes of a picture of a phone."""
    monkeypatch.setattr(
        "runtime.files.image_formats.readable_formats", lambda: ("PNG", "JPEG")
    )  # as where pillow-heif is not installed
    monkeypatch.setattr("runtime.files.image_decode.readable_formats", lambda: ("PNG", "JPEG"))
    problem = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), tmp_path, "p.jpg")
    assert "is a HEIC picture" in problem.message
    assert 'pip install "sglang-graph[heic]"' in problem.help


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages_give_the_first(kind: str, tmp_path: Path) -> None:
    first = Image.new("RGB", (20, 10), (200, 40, 40))
    others = [Image.new("RGB", (20, 10), "blue"), Image.new("RGB", (20, 10), "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=others, **options)
    assert np.abs(read(data, tmp_path).astype(int) - (200, 40, 40)).max() <= 2


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6], ids=["grey", "rgb", "palette", "la", "rgba"])
def test_png_of_every_depth(depth: int, colour: int, tmp_path: Path) -> None:
    if (depth < 8 and colour in {2, 4, 6}) or (depth == 16 and colour == 3):
        with pytest.raises(UserError):
            read(png(depth, colour, [bytes(64)]), tmp_path)
        return
    top = 2**depth - 1
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    levels = [round(i * top / 7) for i in range(8)]
    samples = [[v] * channels for v in levels]
    for pixel in samples if colour in {4, 6} else []:
        pixel[-1] = top  # opaque
    if colour == 3:
        samples = [[i & top] for i in range(8)]
    bits = "".join(f"{v:0{depth}b}" for pixel in samples for v in pixel)
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    palette = bytes(v for i in range(8) for v in (i * 36,) * 3)
    chunks = [(b"PLTE", palette)] if colour == 3 else []
    found = read(png(depth, colour, [row] * 2, *chunks), tmp_path)
    expected = (
        [(i & top) * 36 for i in range(8)] if colour == 3 else [v * 255 / top for v in levels]
    )
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1)


def test_a_transparent_colour_of_16_bits(tmp_path: Path) -> None:
    grey = png(16, 0, [struct.pack(">8H", *range(0, 8000, 1000))], (b"tRNS", struct.pack(">H", 0)))
    found = read(grey, tmp_path)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 1].tolist() == [4, 4, 4]
    row = struct.pack(">24H", *[65535, 0, 0] * 4, *[0, 65535, 0] * 4)
    found = read(png(16, 2, [row], (b"tRNS", struct.pack(">3H", 65535, 0, 0))), tmp_path)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 7].tolist() == [0, 255, 0]


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_are_scaled(top: float, tmp_path: Path) -> None:
    """N05."""
    levels = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    found = read(encoded(Image.fromarray(levels), "TIFF"), tmp_path)
    np.testing.assert_array_equal(found[..., 1], np.arange(256).reshape(16, 16))
    image = check_picture(Image.fromarray(levels))
    np.testing.assert_array_equal(read_picture(image, "x", "x"), found)


@pytest.mark.parametrize("levels", [[0.0, 4.0], [-1.0, 1.0], [0.0, float("nan")], [0.0, 1e9]])
def test_floats_without_a_known_scale_are_refused(levels: list[float], tmp_path: Path) -> None:
    """N05."""
    image = Image.fromarray(np.array([levels], np.float32))
    assert "floating point values" in refused(encoded(image, "TIFF"), tmp_path).message
    with pytest.raises(UserError, match="floating point values"):
        read_picture(image, "x", "x")


@pytest.mark.parametrize("top", [65535, 2**31 - 1])
def test_deep_grey_is_scaled(top: int, tmp_path: Path) -> None:
    levels = np.linspace(0, top, 256).astype(np.int32).reshape(16, 16)
    found = read(encoded(Image.fromarray(levels), "TIFF"), tmp_path)
    np.testing.assert_allclose(found[..., 0], np.arange(256).reshape(16, 16), atol=1)


def test_cmyk(tmp_path: Path) -> None:
    for kind in ("JPEG", "TIFF"):
        data = encoded(Image.fromarray(RGB).convert("CMYK"), kind)
        assert psnr(read(data, tmp_path), RGB) > 25


def test_lab(tmp_path: Path) -> None:
    red = Image.merge("LAB", [Image.new("L", (8, 8), v) for v in (136, 208, 195)])
    found = read(encoded(red, "TIFF"), tmp_path)[0, 0].astype(int)
    assert found[0] > 200
    assert found[1:].max() < 60


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_shown_on_white(kind: str, mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    image.paste((90, 90, 90, 255), (0, 0, 2, 4))
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read(encoded(image.convert(mode), kind, **options), tmp_path)
    assert found[0, 0].tolist() == [90, 90, 90]
    assert found[0, 3].tolist() == [255, 255, 255]


def profile(swap: bool = True) -> bytes:
    """An ICC profile of sRGB, with its red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    places = {bytes(data[a : a + 4]): a for a in range(132, 132 + 12 * count, 12)}
    if swap:
        red, green = places[b"rXYZ"], places[b"gXYZ"]
        data[red + 4 : red + 12], data[green + 4 : green + 12] = (
            data[green + 4 : green + 12],
            data[red + 4 : red + 12],
        )
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_colour_profiles_are_converted_to_srgb(kind: str, tmp_path: Path) -> None:
    """N11."""
    image = Image.new("RGB", (16, 16), (250, 10, 10))
    data = encoded(image, kind, icc_profile=profile(), quality=95)
    found = read(data, tmp_path)[8, 8].astype(int)
    assert np.abs(found - (10, 250, 10)).max() < 12


def test_profiles_keep_alpha_and_work_with_palettes_and_deep_pictures(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (250, 10, 10, 0))
    image.putpixel((0, 0), (250, 10, 10, 255))
    found = read(encoded(image, "PNG", icc_profile=profile()), tmp_path)
    assert found[0, 0, 1] > 240
    assert found[0, 0, 0] < 20
    assert found[1, 1].tolist() == [255, 255, 255]
    palette = Image.new("RGB", (4, 4), (250, 10, 10)).quantize(4)
    assert read(encoded(palette, "PNG", icc_profile=profile()), tmp_path)[0, 0, 1] > 240


def test_srgb_profiles_change_no_pixel_and_damaged_ones_are_ignored(tmp_path: Path) -> None:
    for icc in (profile(swap=False), b"nonsense", profile()[:200]):
        data = encoded(Image.fromarray(RGB), "PNG", icc_profile=icc)
        np.testing.assert_array_equal(read(data, tmp_path), RGB)
    grey = Image.fromarray(RGB[..., 0])
    data = encoded(grey, "PNG", icc_profile=profile())  # of another kind than the picture
    np.testing.assert_array_equal(read(data, tmp_path)[..., 2], RGB[..., 0])
    assert SAME_COLOUR < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_orientation(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(RGB, 1)))
    data = encoded(stored, kind, exif=exif, quality=95)
    assert psnr(read(data, tmp_path), RGB) > 30


def test_damaged_exif_data_do_not_refuse_a_picture(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RGB), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert psnr(read(data, tmp_path), RGB) > 30


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "an empty file"),
        (b"a prompt", "a text"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?><svg/>', "an SVG drawing"),
        (b"%PDF-1.7", "a PDF document"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\xff\x0a\0\0", "a JPEG XL picture"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "an MP4 clip, not a picture"),
        (b"\x1aE\xdf\xa3", "a Matroska or WebM clip, not a picture"),
        (b"PK\3\4", "a ZIP archive"),
        (b'{"error": 1}', "a JSON text"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (bytes(100), "a file of an unknown kind"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(data: bytes, name: str, tmp_path: Path) -> None:
    """N10 and its siblings: content that has the name of a picture."""
    assert name in refused(data, tmp_path).message


def test_every_cut_of_every_format_is_an_error_or_a_picture(tmp_path: Path) -> None:
    """C01: no exception of a decoder gets through."""
    for kind in ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"):
        data = encoded(Image.fromarray(RGB), kind)
        for length in range(0, len(data), max(1, len(data) // 25)):
            path = tmp_path / "cut"
            path.write_bytes(data[:length])
            try:
                read_image(path)
            except UserError as problem:
                assert str(path) in problem.message  # noqa: PT017  either outcome is right


WRAPPED: dict[str, Callable[[str], str]] = {
    "plain": lambda code: f"data:image/png;base64,{code}",
    "lines": lambda code: "data:image/png;base64,\n" + "\r\n".join(
        code[i : i + 76] for i in range(0, len(code), 76)
    ),
    "no padding": lambda code: f"data:image/png;base64,{code.rstrip('=')}",
    "safe alphabet": lambda code: "data:image/png;base64," + code.translate(
        str.maketrans("+/", "-_")
    ),
    "capitals": lambda code: f"DATA:IMAGE/PNG;BASE64,{code}",
    "charset": lambda code: f"data:image/png;charset=utf-8;base64,{code}",
    "no type": lambda code: f"data:;base64,{code}",
    "spaces": lambda code: f"  data: image/png ; base64 , {code} ",
    "escaped": lambda code: "data:image/png;base64," + code.replace("+", "%2B").replace("=", "%3D"),
    "wrong type": lambda code: f"data:image/jpeg;base64,{code}",
}  # fmt: skip


@pytest.mark.parametrize("form", WRAPPED, ids=str)
def test_data_urls_as_people_write_them(form: str) -> None:
    """C17, N32."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    code = base64.b64encode(encoded(Image.fromarray(noise), "PNG")).decode()
    value = check_picture(WRAPPED[form](code))
    np.testing.assert_array_equal(read_picture(value, "`image_path`", "x"), noise)
    assert base_name(value) == ""  # nothing of it is in the files that are made


def test_a_data_url_without_base64() -> None:
    """C17."""
    data = encoded(Image.fromarray(RGB), "PNG")
    value = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)
    np.testing.assert_array_equal(read_picture(check_picture(value), "x", "x"), RGB)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("data:image/png;base64,!!!!", "characters that are not base64"),
        ("data:image/png;base64", "without a comma"),
        ("data:image/png;base64,", "without content"),
        ("data:image/png;base64,AAAA", "which is not a picture format"),
        ("data:image/png;base64,A", "cut off"),
        (base64.b64encode(encoded(Image.fromarray(RGB), "PNG")).decode(), "data:image/png;base64,"),
        (base64.b64encode(encoded(Image.fromarray(RGB), "JPEG")).decode(), "data:image/png;base64"),
        ("ftp://host/a.png", "ftp:// URLs are not fetched"),
    ],
    ids=range(8),
)
def test_data_urls_that_are_wrong_are_told_in_short(value: str, message: str) -> None:
    """C17, N32: nothing prints the whole base64."""
    with pytest.raises(UserError) as caught:
        check_picture(value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV",
                                  "LAB", "I", "F", "I;16", "RGBa", "La", "RGBX"])  # fmt: skip
def test_pil_images_of_every_mode(mode: str) -> None:
    image = Image.new(mode, (6, 4))
    assert read_picture(check_picture(image), "x", "x").shape == (4, 6, 3)


def test_large_pictures_give_a_note_and_no_warning_of_python(tmp_path: Path) -> None:
    """N13. Warnings are errors in this suite."""
    data = encoded(Image.new("1", (12000, 12000)), "PNG")
    found = read(data, tmp_path)
    assert found.shape == (12000, 12000, 3)
    import torch

    (note,) = large_pictures({"image_path": Picture(torch.from_numpy(found)), "prompt": "x"})
    assert "`request.image_path` has 12000x12000 pixels" in note


def test_the_table_has_what_is_read() -> None:
    for name in (*readable_formats(), "MPO"):
        assert IMAGE_FORMATS[name].suffix.startswith(".")
