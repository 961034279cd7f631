"""Content keys: digests of plain data and of pixels. Equal content, equal key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.checkpoint.identity import of_file
from runtime.contract.outputs import Destination
from runtime.contract.values import Image, Rng, Video, tensors
from runtime.files.object_store import ObjectStore
from runtime.settings.field import PIXELS, Field


def digest(value: object) -> str:
    """A digest of plain data."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pictures_key(value: Image | Video | tuple[Image | Video, ...] | None) -> str:
    """A digest of the pixels: the same picture under another name is the same."""
    pixels = [
        [list(t.shape), hashlib.sha256(t.numpy().tobytes()).hexdigest()] for t in tensors(value)
    ]
    return digest(["image", pixels])


def request_keys(ports: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, str]:
    """Digests of the request's ports: of their values, at the request's edge only."""
    keys = {}
    for name, value in ports.items():
        if isinstance(value, Rng):
            keys[name] = digest(["rng", value.state.numpy().tobytes().hex()])
        elif isinstance(value, Destination | ObjectStore):
            keys[name] = digest([type(value).__name__, _data_fields(value)])
        elif fields[name].type in PIXELS:
            keys[name] = pictures_key(value)
        else:
            keys[name] = digest(["value", type(value).__name__, value])
            if fields[name].type == "file":  # the same path may hold another picture by now
                keys[name] = digest([keys[name], _contents(value)])
    return keys


def _contents(paths: str | tuple[str, ...] | None) -> list[str]:
    """Identities of the local files that a request names; URLs are known by their text."""
    named = paths if isinstance(paths, tuple) else (paths,)
    found = [Path(path).expanduser() for path in named if path]
    return [of_file(path) for path in found if path.is_file()]


def _data_fields(value: Destination | ObjectStore) -> list[object]:
    """The fields of a value that are data."""
    return [getattr(value, f.name) for f in dataclasses.fields(value) if f.compare]
