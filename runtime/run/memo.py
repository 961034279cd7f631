"""A cache of results across requests, by content key; the least recently used is evicted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

from runtime.contract.values import tensors

OVERHEAD = 256  # bytes of an entry beside its tensors


class StoredResult(NamedTuple):
    """A cached result, and the notes of the nodes that computed it; a recall repeats them."""

    value: Any
    notes: tuple[str, ...]
    size: int


class ResultMemo:
    """Content key to a node's outputs. Values are never written in place, so they are shared."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._results: OrderedDict[str, StoredResult] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def keys(self) -> frozenset[str]:
        """The keys of the cached results."""
        with self._lock:
            return frozenset(self._results)

    def find(self, key: str) -> StoredResult | None:
        """The cached result, or None."""
        with self._lock:
            return self._results.get(key)

    def snapshot(self) -> dict[str, StoredResult]:
        """All results cached now; they can be recalled from this dict even after an eviction."""
        with self._lock:
            return dict(self._results)

    def touch(self, key: str) -> None:
        """Mark results as recently used, if they are still cached."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)

    def takes(self, value: Any) -> bool:
        """Whether a result fits the budget; it is not worth copying otherwise."""
        return _size(value) <= self.max_bytes

    def put(self, key: str, value: Any, notes: tuple[str, ...] = ()) -> None:
        """Cache a result and its notes, if the budget allows."""
        size = _size(value)
        with self._lock:
            if size > self.max_bytes or key in self._results:
                return
            self._results[key] = StoredResult(value, notes, size)
            self._bytes += size
            while self._bytes > self.max_bytes:
                self._bytes -= self._results.popitem(last=False)[1].size

    def clear(self) -> int:
        """Drop everything; the bytes that were held."""
        with self._lock:
            held, self._bytes = self._bytes, 0
            self._results.clear()
        return held

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._bytes


def _size(value: Any) -> int:
    """Bytes of a cached value; a view counts with its whole storage."""
    return OVERHEAD + sum(t.untyped_storage().nbytes() for t in tensors(value))
