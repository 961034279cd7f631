"""Loaded components: one shared instance per process for equal content, and handles to them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.checkpoint.component_source import ComponentSource
from runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from runtime.checkpoint.vanilla_pipeline import PipelineSource


class Key(NamedTuple):
    """What makes two loaded components one: content (with class and config), dtype and device."""

    identity: str
    class_name: str
    dtype: str
    device: str


class Resident(NamedTuple):
    """A loaded component. nbytes: of its parameters and buffers."""

    key: Key
    name: str
    nbytes: int
    value: Any


class Residency:
    """Holds what is loaded until it is released.

    Safe to use from several threads; loads run one after the other. A scheduler is shared like
    everything else, so it is never stepped: whoever samples copies it first.

    turn  held while a component computes: VAEs keep a cache of features, and tokenizers their
          padding, in themselves, so that two threads at once would spoil both results
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._lock = threading.RLock()
        self._held: dict[Key, Resident] = {}

    def key(
        self,
        source: ComponentSource | PipelineSource,
        dtype: torch.dtype | str | None,
        device: torch.device,
    ) -> Key:
        """Under which key a component is held; dtype and device count for weights only."""
        if not source.has_weights:
            return Key(source.identity, source.class_name, "", "")
        name = str(dtype or "stored").removeprefix("torch.")
        return Key(source.identity, source.class_name, name, str(device))

    def load(
        self,
        source: ComponentSource | PipelineSource,
        *,
        dtype: torch.dtype | str | None,
        device: torch.device,
        trust_remote_code: bool = False,
    ) -> Any:
        """The shared instance of a component, loaded (and downloaded) at its first use."""
        from runtime.checkpoint.load import nbytes
        from runtime.checkpoint.load_pipeline import load_source
        from runtime.device import to_dtype

        key = self.key(source, dtype, device)
        with self._lock:
            if key not in self._held:
                with _collector_off():
                    value = load_source(
                        source,
                        dtype=to_dtype(dtype),
                        device=device,
                        trust_remote_code=trust_remote_code,
                    )
                self._held[key] = Resident(key, source.name, nbytes(value), value)
            return self._held[key].value

    def resident(self) -> list[Resident]:
        """Everything that is loaded, oldest first."""
        with self._lock:
            return list(self._held.values())

    def holds(self, key: Key) -> bool:
        """Whether a component is loaded."""
        with self._lock:
            return key in self._held

    def release(self, key: Key) -> None:
        """Forget a component; its memory is free once nobody else refers to it."""
        with self._lock:
            if self._held.pop(key, None) is None:
                raise UserError(f"`{key.class_name}` on {key.device} is not loaded.")


@contextmanager
def _collector_off() -> Iterator[None]:
    """Pause garbage collection: importing model classes makes much and drops little."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            if not gc.get_freeze_count():
                gc.freeze()  # what is new goes to the oldest generation, unscanned: the next
                gc.unfreeze()  # young collection would walk through all of it
            gc.enable()


@cache
def store() -> Residency:
    """The store of this process."""
    return Residency()
