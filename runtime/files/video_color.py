"""Decoded frames of clips as 8-bit sRGB: matrix, range, depth, HDR, alpha. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files.video_encode import exact_flags

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Code points of ITU-T H.273 and FFmpeg: matrices that swscale converts, by its own numbers.
RGB_MATRIX, UNSPECIFIED, FULL_RANGE, LIMITED_RANGE = 0, 2, 2, 1
SWS_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
BT709, BT601 = 1, 5
HD_HEIGHT = 720  # players take untagged frames of this height for BT.709, smaller ones for BT.601
PQ, HLG = 16, 18  # transfer functions of HDR
BT2020_PRIMARIES, P3_PRIMARIES = 9, 12
# Linear RGB of these primaries to that of BT.709 and sRGB (BT.2087, and P3 with D65).
TO_BT709 = {
    BT2020_PRIMARIES: (
        (1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187),
    ),
    P3_PRIMARIES: (
        (1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979),
    ),
}  # fmt: skip
# Pixel formats by whether 16 bits are needed, and whether there is alpha.
LAYOUTS = {
    (False, False): "rgb24", (False, True): "rgba", (True, False): "rgb48le",
    (True, True): "rgba64le",
}  # fmt: skip
REFERENCE_WHITE = 203.0  # cd/m², of HDR (BT.2408): what sRGB calls 1.0


def frame_to_srgb(frame: Any, width: int) -> NDArray[np.uint8]:
    """One decoded frame of PyAV as `h w 3`, in sRGB, transparent parts on white.

    width  of the result, which differs from the frame's where its pixels are not square
    """
    import numpy as np

    has_alpha = any(component.is_alpha for component in frame.format.components)
    deep = int(frame.color_trc) in {PQ, HLG} or int(frame.color_primaries) in TO_BT709
    layout = LAYOUTS[deep, has_alpha]
    converted = frame.reformat(
        width=width, format=layout, interpolation=exact_flags(), **_colours(frame)
    )
    pixels: NDArray[Any] = converted.to_ndarray()
    colours = _deep_to_srgb(pixels[..., :3], frame) if deep else pixels[..., :3]
    if not has_alpha:
        return np.ascontiguousarray(colours)
    alpha = pixels[..., 3:].astype(np.float32) / (65535 if deep else 255)
    over: NDArray[np.uint8] = np.rint(colours * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return over


def _colours(frame: Any) -> dict[str, int]:
    """The matrix and range of a frame, as arguments of `reformat`."""
    if frame.format.is_rgb or frame.format.name.startswith(("gray", "pal", "mono")):
        is_full = int(frame.color_range) == FULL_RANGE
        return {"src_color_range": FULL_RANGE, "dst_color_range": FULL_RANGE} if is_full else {}
    matrix = int(frame.colorspace)
    if matrix in {RGB_MATRIX, UNSPECIFIED}:
        matrix = BT709 if frame.height >= HD_HEIGHT else BT601
    if matrix not in SWS_MATRICES:
        raise UserError(
            f"its frames have a colour matrix (number {matrix} of H.273) that is not read",
            help="convert the clip to H.264 with BT.709 colours",
        )
    full = int(frame.color_range) == FULL_RANGE or frame.format.name.startswith("yuvj")
    return {
        "src_colorspace": SWS_MATRICES[matrix],
        "dst_colorspace": SWS_MATRICES[matrix],
        "src_color_range": FULL_RANGE if full else LIMITED_RANGE,
        "dst_color_range": FULL_RANGE,
    }


def _deep_to_srgb(values: NDArray[Any], frame: Any) -> NDArray[np.uint8]:
    """16-bit RGB with HDR or wide primaries as 8-bit sRGB.

    HDR is scaled so that its reference white is white, and brighter light is compressed.

    Source: ITU-R BT.2100 (transfer functions), BT.2408 (reference white), BT.2087 (primaries).
    """
    import numpy as np

    signal = values.astype(np.float32) / 65535
    transfer = int(frame.color_trc)
    if transfer == PQ:
        light = _pq_to_light(signal) / REFERENCE_WHITE
    elif transfer == HLG:
        light = _hlg_to_light(signal) / REFERENCE_WHITE
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    if (primaries := TO_BT709.get(int(frame.color_primaries))) is not None:
        light = light @ np.array(primaries, np.float32).T
    light = np.maximum(light, 0)
    if transfer in {PQ, HLG}:
        light = _compressed(light)
    light = np.clip(light, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return pixels


def _pq_to_light(signal: NDArray[Any]) -> NDArray[Any]:
    """Perceptual quantizer to cd/m² (SMPTE ST 2084)."""
    import numpy as np

    power = signal ** (1 / 78.84375)
    ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    light: NDArray[Any] = 10000 * ratio ** (1 / 0.1593017578125)
    return light


def _hlg_to_light(signal: NDArray[Any]) -> NDArray[Any]:
    """Hybrid log-gamma to cd/m² of a display with a peak of 1000 cd/m²."""
    import numpy as np

    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    light: NDArray[Any] = 1000 * scene * np.maximum(luma, 1e-6)[..., None] ** 0.2
    return light


def _compressed(light: NDArray[Any]) -> NDArray[Any]:
    """Light above a knee bent towards 1, by the brightest of each pixel so that hues stay."""
    import numpy as np

    knee, peak = 0.7, 1000 / REFERENCE_WHITE
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    over = np.clip((brightest - knee) / (peak - knee), 0, 1)
    slope = (peak - knee) / (1 - knee)
    bent = knee + (1 - knee) * over * slope / (1 + over * (slope - 1))
    result: NDArray[Any] = np.where(brightest > knee, light * bent / brightest, light)
    return result
