"""The size of a picture or a clip: what it is, and how it differs from what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runtime.contract.values import Image, Video, VideoStream

MEASURES = ("height", "width", "num_frames", "fps")  # px, px, frames, frames per second
RATE_TOLERANCE = 1e-4  # relative


def measures(value: Any) -> dict[str, float]:
    """The measures that a picture, a clip or a stream has; of other values, none."""
    if isinstance(value, Image):
        return dict(zip(MEASURES, value.pixels.shape[:2], strict=False))
    if isinstance(value, Video):
        count, height, width = value.frames.shape[:3]
        return {"height": height, "width": width, "num_frames": count, "fps": value.fps}
    if isinstance(value, VideoStream):
        return {"num_frames": value.num_frames, "fps": value.fps}
    return {}


def differences(value: object, wanted: Mapping[str, float]) -> Iterator[str]:
    """A phrase for each measure of a value, or of its parts, that is not the one that is wanted."""
    if isinstance(value, tuple):
        for part in value:
            yield from differences(part, wanted)
    for name, found in measures(value).items():
        asked = wanted.get(name, found)
        if abs(found - asked) > (RATE_TOLERANCE * asked if name == "fps" else 0):
            yield f"{name} {found:g} instead of {asked:g}"
