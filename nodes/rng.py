"""States of random generators: from a seed, and several from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from runtime.contract.values import Rng


@dataclass(frozen=True, kw_only=True)
class FromSeed:
    """Make the state of a generator from a seed.

    seed  whole number from 0
    rng   the state of `torch.Generator().manual_seed(seed)`

    A graph needs it rarely: a seed field or a whole number at an `Rng` port passes through one.
    """

    class Out(NamedTuple):
        rng: Rng

    def run(self, *, seed: int) -> Out:
        """The state."""
        return self.Out(Rng.from_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Split:
    """Split a generator in two that draw different numbers, so that branches stay independent.

    rng            the generator to split
    first, second  generators seeded with two numbers that `rng` draws
    """

    class Out(NamedTuple):
        first: Rng
        second: Rng

    def run(self, *, rng: Rng) -> Out:
        """Draw two seeds."""
        seeds, _ = rng.using(lambda g: torch.randint(2**63 - 1, (2,), generator=g))
        return self.Out(*(Rng.from_seed(int(seed)) for seed in seeds))
