"""Recognise files with equal content without reading them whole. Imports no torch.

In the hub's cache the blob's name is a digest already. A small file is identified by its content,
a large one by path, size, time and a hash of its header, which is stored in a cache on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from runtime.checkpoint.weight_files import raw_header
from runtime.paths import cache_root

SMALL = 2**20
SAMPLE_BYTES = 2**16
PIECES, PIECE = 64, 2**12
BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def digest_of(*parts: object) -> str:
    """A digest of plain data."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def of_files(paths: Iterable[Path]) -> list[str]:
    """The identity of each file."""
    return [of_file(path) for path in paths]


def of_file(path: Path) -> str:
    """The identity of one file: its blob on the hub, its content, or path, size, time, header."""
    if blob := blob_id(path):
        return blob
    real = path.resolve()
    status = real.stat()
    if status.st_size <= SMALL:
        return hashlib.sha256(real.read_bytes()).hexdigest()
    facts = {
        "path": str(real), "size": status.st_size, "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,  # of the change itself: no program can set it
    }  # fmt: skip
    known = _remembered(facts)
    if known is None:
        known = hashlib.sha256(_edges(real)).hexdigest()
        _remember(facts, known)
    return digest_of(facts, known)


def of_content(path: Path) -> str:
    """What is in a file, wherever it lies: its blob on the hub, its content, or a sample of it.

    The sample of a large file is its size, its header and 64 pieces of 4 KB from all over it: other
    training, another dtype or a merged adapter changes those; a few changed numbers may not.
    """
    if blob := blob_id(path):
        return blob
    real = path.resolve()
    size = real.stat().st_size
    if size <= SMALL:
        return hashlib.sha256(real.read_bytes()).hexdigest()
    found = hashlib.sha256(_edges(real))
    with real.open("rb") as file:
        for index in range(PIECES):
            file.seek((size - PIECE) * index // (PIECES - 1))
            found.update(file.read(PIECE))
    return digest_of("sample", size, found.hexdigest())


def blob_id(path: Path) -> str | None:
    """The digest that the hub's cache names the file's content by; none outside of that cache."""
    real = path.resolve()
    inside = real.parent.name == "blobs" and path.is_symlink()
    return real.name if inside and BLOB.fullmatch(real.name) else None


def _edges(path: Path) -> bytes:
    """The header of a safetensors file; of others both ends, where a zip keeps its checksums."""
    if path.suffix == ".safetensors":
        return raw_header(path)
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        file.seek(-SAMPLE_BYTES, os.SEEK_END)
        return head + file.read(SAMPLE_BYTES)


def _entry(facts: Mapping[str, object]) -> Path:
    return cache_root() / "headers" / f"{digest_of(facts['path'])}.json"


def _remembered(facts: Mapping[str, object]) -> str | None:
    try:
        entry = json.loads(_entry(facts).read_text())
        known = entry.pop("header")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return known if entry == dict(facts) and isinstance(known, str) else None


def _remember(facts: Mapping[str, object], known: str) -> None:
    """Write one entry atomically; a cache that cannot be written only costs time."""
    target = _entry(facts)
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({**facts, "header": known}, file)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
