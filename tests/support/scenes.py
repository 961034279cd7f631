"""Pictures drawn for tests, and how near two are."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint8]


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
