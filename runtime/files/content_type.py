"""What a file holds, told by its first bytes: never by its name. Imports nothing else."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 512  # enough for every signature below


@dataclass(frozen=True)
class Content:
    """The kind of a file's content.

    name       for messages, with its article: `a PNG picture`
    kind       picture | clip | animation (a picture format that may have several frames) | other
    extension  what a file of this kind is usually called, without a dot; empty if unknown
    demuxer    of a clip: FFmpeg's name of the format
    """

    name: str
    kind: str
    extension: str = ""
    demuxer: str = ""


UNKNOWN = Content("a file of an unknown kind", "other")
EMPTY = Content("an empty file", "other")
HTML = Content("an HTML page", "other", "html")
SVG = Content("an SVG drawing", "other", "svg")
TEXT = Content("a text", "other", "txt")
AVIF = Content("an AVIF picture", "animation", "avif")
HEIC = Content("a HEIC picture", "picture", "heic")
MP4 = Content("an MP4 clip", "clip", "mp4", "mov")
MOV = Content("a QuickTime clip", "clip", "mov", "mov")
PNG = Content("a PNG picture", "animation", "png")
JPEG = Content("a JPEG picture", "picture", "jpg")
WEBP = Content("a WebP picture", "animation", "webp")
GIF = Content("a GIF picture", "animation", "gif")

# Bytes at the beginning of a file; the first that fits counts.
SIGNATURES: tuple[tuple[bytes, Content], ...] = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", Content("a BMP picture", "picture", "bmp")),
    (b"II*\0", Content("a TIFF picture", "picture", "tiff")),
    (b"MM\0*", Content("a TIFF picture", "picture", "tiff")),
    (b"II+\0", Content("a BigTIFF picture", "picture", "tiff")),
    (b"MM\0+", Content("a BigTIFF picture", "picture", "tiff")),
    (b"IIU\0", Content("a raw picture of a camera", "other", "rw2")),
    (b"\xff\x0a", Content("a JPEG XL picture", "other", "jxl")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Content("a JPEG XL picture", "other", "jxl")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Content("a JPEG 2000 picture", "other", "jp2")),
    (b"\xff\x4f\xff\x51", Content("a JPEG 2000 picture", "other", "j2k")),
    (b"8BPS", Content("a Photoshop document", "other", "psd")),
    (b"\0\0\1\0", Content("an icon (ICO)", "other", "ico")),
    (b"qoif", Content("a QOI picture", "other", "qoi")),
    (b"DDS ", Content("a DDS texture", "other", "dds")),
    (b"v/1\x01", Content("an OpenEXR picture", "other", "exr")),
    (b"#?RADIANCE", Content("a Radiance HDR picture", "other", "hdr")),
    (b"%PDF", Content("a PDF document", "other", "pdf")),
    (b"%!PS", Content("a PostScript document", "other", "ps")),
    (b"\x1aE\xdf\xa3", Content("a Matroska or WebM clip", "clip", "mkv", "matroska")),
    (b"FLV\x01", Content("an FLV clip", "clip", "flv", "flv")),
    (b"0&\xb2u\x8ef\xcf\x11", Content("a Windows Media clip", "clip", "wmv", "asf")),
    (b"\0\0\1\xba", Content("an MPEG clip", "clip", "mpg", "mpeg")),
    (b"\0\0\1\xb3", Content("an MPEG clip", "clip", "mpg", "mpegvideo")),
    (b"OggS", Content("an Ogg file", "clip", "ogg", "ogg")),
    (b"YUV4MPEG2", Content("a YUV4MPEG clip", "clip", "y4m", "yuv4mpegpipe")),
    (b"ID3", Content("an MP3 sound", "other", "mp3")),
    (b"fLaC", Content("a FLAC sound", "other", "flac")),
    (b"\x93NUMPY", Content("a NumPy array", "other", "npy")),
    (b"PK\x03\x04", Content("a ZIP archive", "other", "zip")),
    (b"\x1f\x8b", Content("data compressed by gzip", "other", "gz")),
    (b"Rar!", Content("a RAR archive", "other", "rar")),
    (b"7z\xbc\xaf'\x1c", Content("a 7z archive", "other", "7z")),
)
# The kinds of RIFF files, at byte 8, and brands of ISO media files, from byte 8 on.
RIFF = {
    b"WEBP": WEBP,
    b"AVI ": Content("an AVI clip", "clip", "avi", "avi"),
    b"WAVE": Content("a WAV sound", "other", "wav"),
}
AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
HEIC_BRANDS |= {b"mif1", b"msf1"}  # any HEIF; AVIF names its own brand beside them
SOUND_BRANDS = {b"M4A ", b"M4B "}
PNM = {b"P%d" % number for number in range(1, 8)}


def content_type(head: bytes) -> Content:
    """The kind of content that a file's first bytes tell (HEAD_BYTES of them, or all there are)."""
    if not head:
        return EMPTY
    if head[:4] == b"RIFF":
        return RIFF.get(head[8:12], UNKNOWN)
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[4:8] in {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}:
        return MOV
    if head[:2] in PNM and head[2:3].isspace():
        return Content("a PNM picture", "picture", "ppm")
    if head[:1] == b"G" and len(head) > 376 and head[188:189] == head[376:377] == b"G":
        return Content("an MPEG transport stream", "clip", "ts", "mpegts")
    for signature, content in SIGNATURES:
        if head.startswith(signature):
            return content
    return _text(head)


def _iso_media(head: bytes) -> Content:
    """MP4, QuickTime, HEIC or AVIF: the `ftyp` box lists the brands that a file follows."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
    if brands & AVIF_BRANDS:
        return AVIF
    if brands & HEIC_BRANDS:
        return HEIC
    if head[8:12] == b"crx ":
        return Content("a raw picture of a camera", "other", "cr3")
    if head[8:12] in SOUND_BRANDS:
        return Content("an MPEG-4 sound", "other", "m4a")
    return MOV if head[8:12] == b"qt  " else MP4


def _text(head: bytes) -> Content:
    """HTML, SVG, JSON or other text; UNKNOWN if the bytes are no text."""
    sample = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if sample.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return HTML
    if b"<svg" in sample and sample.startswith(b"<"):
        return SVG
    if sample.startswith(b"version https://git-lfs"):
        return Content("a Git LFS pointer, not the file itself", "other")
    if sample.startswith((b"{", b"[")):
        return Content("a JSON text", "other", "json")
    if sample.startswith(b"<"):
        return Content("an XML or HTML text", "other", "xml")
    is_text = not any(byte < 9 or 13 < byte < 32 for byte in head)
    try:
        head[:-4].decode("utf-8")  # the last character may be cut
    except UnicodeDecodeError:
        return UNKNOWN
    return TEXT if is_text else UNKNOWN
