"""Request values as they travel on edges: pictures become pixels, once, at the request's edge."""

from __future__ import annotations

from typing import Any

import torch

from runtime.contract.values import Image, Video
from runtime.files.input_pictures import read_clip, read_picture
from runtime.settings.field import PIXELS, Field


def port_value(field: Field, value: Any) -> Any:
    """The value of a request port: pictures are fetched and read, anything else is as it is."""
    if field.type not in PIXELS or value is None:
        return value
    read = _image if field.type == "image" else _video
    return tuple(read(field, v) for v in value) if field.many else read(field, value)


def _image(field: Field, value: Any) -> Image:
    return Image(torch.from_numpy(read_picture(value, f"`{field.name}`", field.name)))


def _video(field: Field, value: Any) -> Video:
    frames, fps = read_clip(value, f"`{field.name}`", field.name)
    return Video(torch.from_numpy(frames), fps)
