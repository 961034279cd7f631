"""Results kept across requests by content key, under a byte budget, least recently used out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from runtime.values import tensors

OVERHEAD = 256  # bytes that an entry costs beside its tensors


class Memo:
    """Content key to a node's outputs. Values are never written in place, so they are shared."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def keys(self) -> frozenset[str]:
        """The keys whose results are kept now."""
        with self._lock:
            return frozenset(self._kept)

    def get(self, key: str) -> Any:
        """The kept result; it becomes the most recently used. KeyError where it has gone."""
        with self._lock:
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: str, value: Any) -> None:
        """Keep a result, as far as the budget allows."""
        size = OVERHEAD + sum(t.numel() * t.element_size() for t in tensors(value))
        with self._lock:
            if size > self.max_bytes or key in self._kept:
                return
            self._kept[key] = (value, size)
            self._held += size
            while self._held > self.max_bytes:
                self._held -= self._kept.popitem(last=False)[1][1]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._held
