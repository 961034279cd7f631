"""Content keys: digests of plain data and of pixels. Equal content, equal key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runtime.contract.values import Image, Video, tensors


def digest(value: Any) -> str:
    """A digest of plain data."""
    said = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def pictures_key(value: Image | Video | tuple[Image | Video, ...] | None) -> str:
    """A digest of the pixels: the same picture under another name is the same."""
    shown = [
        [list(t.shape), hashlib.sha256(t.numpy().tobytes()).hexdigest()] for t in tensors(value)
    ]
    return digest(["image", shown])
