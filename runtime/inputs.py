"""Request values as they travel on edges: pictures become pixels, once, at the request's edge."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from runtime.fields import Field
from runtime.passes import digest
from runtime.pictures import read_picture
from runtime.values import Image, tensors


def port_value(field: Field, value: Any) -> Any:
    """The value of a request port: pictures are fetched and read, anything else is as it is."""
    if field.type != "image" or value is None:
        return value
    return tuple(_image(field, v) for v in value) if field.many else _image(field, value)


def pictures_key(value: Image | tuple[Image, ...] | None) -> str:
    """A digest of the pixels: the same picture under another name is the same."""
    shown = [
        [list(t.shape), hashlib.sha256(t.numpy().tobytes()).hexdigest()] for t in tensors(value)
    ]
    return digest(["image", shown])


def _image(field: Field, value: Any) -> Image:
    return Image(torch.from_numpy(read_picture(value, f"`{field.name}`", field.name)))
