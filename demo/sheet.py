"""Contact sheets: many pictures on one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from demo.classify import Pixels


def write_sheet(
    pictures: Sequence[Pixels], columns: int, path: Path, *, scale: float = 1.0
) -> None:
    """Write pictures `h w 3` of one size as a PNG, row by row on grey, `scale` times as large."""
    gap = 4
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    size = (rows * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(size, 128, np.uint8)
    for index, picture in enumerate(pictures):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    image = Image.fromarray(sheet)
    if scale != 1:
        sides = (int(image.width * scale), int(image.height * scale))
        image = image.resize(sides, Image.Resampling.LANCZOS)
    image.save(path)
