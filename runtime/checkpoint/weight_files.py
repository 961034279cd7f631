"""Weight files: which ones a component folder offers, and what their headers say. No torch."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from runtime.checkpoint.file_faults import download_fault, file_fault, reading
from runtime.checkpoint.folder import Folder
from runtime.errors import UserError

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
VARIANTS = ("bf16", "fp16", "fp32")  # preferred in this order where there is no plain file
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
HEADER_BYTES = 100 * 2**20
# diffusers writes the variant before the numbers of a shard; older files have it behind them.
SHARD = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(\.(?P<before>\w+))?"
    r"-(?P<index>\d{5})-of-(?P<count>\d{5})(\.(?P<after>\w+))?\.(?P<suffix>safetensors|bin)"
)
MOST_SHARDS = 1000  # of what a name claims


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


def select_weight_files(folder: Folder) -> tuple[str, ...]:
    """Names of the weight files in a component folder: safetensors first, plain before variants.

    A pickle (`.bin`) is taken only where there is nothing else. An index names its shards; shards
    without one are taken where their names say that none is missing.
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
                for shards, absent in unindexed_shards(names, stem, middle, suffix):
                    if not absent:
                        return shards
    return ()


def unindexed_shards(
    names: Iterable[str], stem: str, middle: str, suffix: str
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Sets of shards by their names alone, each with the names that are missing of the set."""
    sets: dict[tuple[str, str, int], dict[int, str]] = {}
    for name in names:
        found = SHARD.fullmatch(name)
        if not found or found["stem"] != stem or found["suffix"] != suffix:
            continue
        if f".{found['before'] or found['after'] or ''}".rstrip(".") == middle:
            key = (found["before"] or "", found["after"] or "", int(found["count"]))
            sets.setdefault(key, {})[int(found["index"])] = name
    for (before, after, count), present in sorted(sets.items()):
        head, tail = (f".{part}" if part else "" for part in (before, after))
        absent = (
            f"{stem}{head}-{i:05d}-of-{count:05d}{tail}.{suffix}"
            for i in range(1, min(count, MOST_SHARDS) + 1)
            if i not in present
        )
        yield tuple(present[i] for i in sorted(present)), tuple(absent)


def incomplete_shards(folder: Folder) -> tuple[str, ...]:
    """Names that are missing of a set of shards without an index; empty where there is no such."""
    names = folder.names()
    return next(
        (
            absent
            for suffix in ("safetensors", "bin")
            for variant in ("", *_variants(names, suffix))
            for stem in STEMS
            for _, absent in unindexed_shards(names, stem, f".{variant}" * bool(variant), suffix)
            if absent
        ),
        (),
    )


def has_index(folder: Folder, weights: Sequence[str]) -> bool:
    """Whether weight files need no index, or have one: a single file, or shards that it names."""
    if len(weights) == 1 and not SHARD.fullmatch(weights[0]):
        return True
    return any(".index." in name for name in folder.names())


def is_integer_weight(key: str, dtype: str) -> bool:
    """Whether a tensor is a layer's weight in whole numbers, as quantized files have them.

    dtype  as safetensors spells it
    """
    return key.endswith(".weight") and dtype in INTEGERS


def weight_variant(names: Iterable[str]) -> str:
    """`fp16` of `model.fp16.safetensors` and its shards; empty for plain files."""
    name = min(names, default="")
    if shard := SHARD.fullmatch(name):
        return shard["before"] or shard["after"] or ""
    stem, *middle, suffix = name.split(".") if name.count(".") > 1 else (name, "")
    return ".".join(middle) if stem in STEMS and suffix in {"safetensors", "bin"} else ""


def _variants(names: list[str], suffix: str) -> list[str]:
    found = set()
    for name in names:
        for stem in STEMS:
            if name.startswith(f"{stem}.{suffix}.index.") and name.count(".") == 4:
                found.add(name.split(".")[3])
            elif shard := SHARD.fullmatch(name):
                found.add(shard["before"] or shard["after"] or "")
            elif name.startswith(f"{stem}.") and name.endswith(f".{suffix}"):
                found.add(name[len(stem) + 1 : -len(suffix) - 1])
    named = [variant for variant in found if variant]
    return sorted(named, key=lambda v: (VARIANTS.index(v) if v in VARIANTS else 9, v))


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
    if problem := file_fault(path):
        raise problem
    with reading(path):
        status = path.stat()
        return _header(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def raw_header(path: Path) -> bytes:
    """The header of a safetensors file as bytes; a UserError where the file has none."""
    if problem := file_fault(path):
        raise problem
    with path.open("rb") as file:
        start = file.read(64)
        if problem := download_fault(path, start, "weights"):
            raise problem
        file.seek(8)
        size = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
        if not 2 <= size <= HEADER_BYTES:
            raise UserError(f"{path} is no safetensors file.", help="download the file again")
        text = file.read(size)
    if len(text) != size:
        raise UserError(f"{path} is cut short.", help="download the file again")
    return text


@lru_cache(maxsize=512)
def _header(path: str, size: int, mtime_ns: int, ctime_ns: int) -> Mapping[str, Stored]:
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
