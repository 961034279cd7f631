"""The ledger of a rehearsal: bytes that are alive on the device, and the work that was done."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Cost:
    """The work of some operations.

    flops         of matrix products, attention and convolutions, by dtype; a multiply-add is two
    matrix_bytes  that those read and write
    other_bytes   that all other operations read and write, each for itself
    """

    flops: Counter[str] = field(default_factory=Counter)
    matrix_bytes: int = 0
    other_bytes: int = 0

    def add(self, other: Cost) -> None:
        """Add what others cost."""
        self.flops.update(other.flops)
        self.matrix_bytes += other.matrix_bytes
        self.other_bytes += other.other_bytes


class Ledger:
    """Counts storages on the device while they live, weights left out, and sums up costs.

    live  bytes on the device now
    peak  the most since `measured` began
    """

    def __init__(self) -> None:
        self.live = self.peak = 0
        self.cost = Cost()
        self._held: set[int] = set()

    def allocate(self, inner: torch.Tensor, *, weight: bool = False) -> None:
        """Count a tensor's storage once, until it is dropped; that of a weight counts nothing."""
        storage = inner.untyped_storage()
        key, nbytes = storage._cdata, 0 if weight else storage.nbytes()
        if key in self._held:
            return
        self._held.add(key)
        self.live += nbytes
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, nbytes)

    def _freed(self, key: int, nbytes: int) -> None:
        self._held.discard(key)
        self.live -= nbytes

    @contextmanager
    def measured(self) -> Iterator[Measured]:
        """Measure what happens inside: how far above its beginning memory rises, and the cost."""
        before, peak, began = self.cost, self.peak, self.live
        self.cost, self.peak = Cost(), self.live
        found = Measured(began)
        try:
            yield found
        finally:
            found.peak, found.cost = self.peak, self.cost
            before.add(self.cost)
            self.cost, self.peak = before, max(peak, self.peak)

    def repeat(self, known: Measured) -> None:
        """Count again what was measured before."""
        self.cost.add(known.cost)
        self.peak = max(self.peak, self.live + known.rise)


@dataclass
class Measured:
    """What was measured. began: bytes alive before. peak: the most, those included."""

    began: int
    peak: int = 0
    cost: Cost = field(default_factory=Cost)

    @property
    def rise(self) -> int:
        """How far above its beginning memory rose."""
        return self.peak - self.began


def element_bytes(value: Any) -> int:
    """Bytes of a tensor's elements; 0 for what is none."""
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0
