"""Request values as they travel on edges: pictures become pixels, once, at the request's edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from runtime.contract.values import Image, Video
from runtime.files.input_pictures import read_clip, read_picture
from runtime.settings.field import PIXELS, Field
from runtime.settings.picture_size import SIDES, picture_size

LARGE_PIXELS = 64 * 10**6  # a note is given for pictures with more


def port_value(field: Field, value: Any, request: Mapping[str, Any]) -> Any:
    """The value of a request port: pictures and clips are fetched and read, others are unchanged.

    request  the values of all fields: a clip is read only as far as they need it
    """
    if field.type not in PIXELS or value is None:
        return value
    many = value if field.many else (value,)
    read = tuple(_read(field, one, request) for one in many)
    return read if field.many else read[0]


def large_pictures(ports: Mapping[str, object]) -> list[str]:
    """Notes on pictures that are much larger than any model takes: reading them is slow."""
    pictures = [
        (name, image)
        for name, value in ports.items()
        for image in (value if isinstance(value, tuple) else (value,))
        if isinstance(image, Image)
    ]
    return [
        f"`request.{name}` has {image.pixels.shape[1]}x{image.pixels.shape[0]} pixels: a smaller"
        " picture is read faster and gives the same result"
        for name, image in pictures
        if image.pixels.shape[0] * image.pixels.shape[1] > LARGE_PIXELS
    ]


def _read(field: Field, value: object, request: Mapping[str, Any]) -> Image | Video:
    path = f"request.{field.name}"
    if field.type == "image":
        return Image(torch.from_numpy(read_picture(value, f"`{path}`", path, alpha=field.alpha)))
    frames, fps = read_clip(
        value, f"`{path}`", path,
        num_frames=request.get(field.frames), fps=request.get(field.fps),
    )  # fmt: skip
    return Video(torch.from_numpy(frames), fps)


def sizes(fields: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, int]:
    """Height and width where a request leaves them to its picture; of several, to the first one.

    values  of request ports
    """
    sides = [name for name in SIDES if (field := fields.get(name)) and field.shape_of]
    if len(sides) < len(SIDES) or all(values.get(side) is not None for side in SIDES):
        return {}
    given = values.get(fields[sides[0]].shape_of)
    first = given[0] if isinstance(given, tuple) and given else given
    if not isinstance(first, Image | Video):
        return {}
    pixels = first.pixels if isinstance(first, Image) else first.frames[0]
    rows, columns = pixels.shape[:2]
    return picture_size(fields, {side: values.get(side) for side in SIDES}, (rows, columns))
