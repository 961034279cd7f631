"""Weight files: which ones a component folder offers, and what their headers say. No torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from runtime.checkpoint.folder import Folder
from runtime.errors import UserError

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
VARIANTS = ("bf16", "fp16", "fp32")  # preferred in this order where there is no plain file
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
HEADER_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file: dtype as the file spells it, shape, place in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    def bytes_as(self, dtype: str | None) -> int:
        """Bytes after a cast to `dtype`; only floating-point tensors are cast."""
        if dtype is None or self.dtype not in BITS:
            return self.nbytes
        return math.prod(self.shape) * DTYPE_BYTES[dtype]


def choose(folder: Folder) -> tuple[str, ...]:
    """Names of the weight files in a component folder: safetensors first, plain before variants.

    A pickle (`.bin`) is taken only where there is nothing else; an index names its shards.
    """
    names = folder.names()
    for suffix in ("safetensors", "bin"):
        for variant in ("", *_variants(names, suffix)):
            middle = f".{variant}" if variant else ""
            for stem in STEMS:
                index = f"{stem}.{suffix}.index{middle}.json"
                if index in names and (shards := _shards(folder, index)):
                    return shards
                single = f"{stem}{middle}.{suffix}"
                if single in names:
                    return (single,)
    return ()


def _variants(names: list[str], suffix: str) -> list[str]:
    found = set()
    for name in names:
        for stem in STEMS:
            if name.startswith(f"{stem}.{suffix}.index.") and name.count(".") == 4:
                found.add(name.split(".")[3])
            elif name.startswith(f"{stem}.") and name.endswith(f".{suffix}"):
                found.add(name[len(stem) + 1 : -len(suffix) - 1])
    plain = [v for v in found if v and "-of-" not in v]  # a shard is named by its index
    return sorted(plain, key=lambda v: (VARIANTS.index(v) if v in VARIANTS else 9, v))


def _shards(folder: Folder, index: str) -> tuple[str, ...]:
    listed = folder.json(index).get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        return ()
    shards = sorted(set(map(str, listed.values())))
    for shard in shards:
        if Path(shard).name != shard:
            raise UserError(
                f"{folder.path / index} names the shard {shard!r}, which is outside its folder.",
                help="download the model again",
            )
    return tuple(shards)


def header(path: Path) -> Mapping[str, Stored]:
    """Every tensor of a safetensors file, from its header alone."""
    status = path.stat()
    return _header(str(path), status.st_size, status.st_mtime_ns)


def raw_header(path: Path) -> bytes:
    """The header of a safetensors file as bytes; a UserError where the file has none."""
    with path.open("rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if start.startswith(b"version"):
            raise UserError(
                f"{path} is a git-lfs pointer, not weights.",
                help="run `git lfs pull` in its folder",
            )
        if not 2 <= size <= HEADER_BYTES:
            raise UserError(f"{path} is no safetensors file.", help="download the file again")
        text = file.read(size)
    if len(text) != size:
        raise UserError(f"{path} is cut short.", help="download the file again")
    return text


@lru_cache(maxsize=512)
def _header(path: str, size: int, mtime_ns: int) -> Mapping[str, Stored]:
    text = raw_header(Path(path))
    try:
        listed = json.loads(text)
        found = {
            key: _stored(t, 8 + len(text)) for key, t in listed.items() if key != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise UserError(
            f"{path} has a broken header: {problem!r}", help="download the file again"
        ) from problem
    expected = 8 + len(text) + sum(t.nbytes for t in found.values())
    if size != expected:
        raise UserError(
            f"{path} is cut short: it has {size} bytes, its header asks for {expected}.",
            help="download the file again",
        )
    return found


def _stored(entry: Mapping[str, Any], data: int) -> Stored:
    begin, end = map(int, entry["data_offsets"])
    return Stored(str(entry["dtype"]), tuple(entry["shape"]), data + begin, end - begin)
