"""Loaded components: one shared instance per process for equal content, and handles to them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.errors import UserError, did_you_mean
from runtime.sources import ComponentSource, fetch

if TYPE_CHECKING:
    import torch

    from runtime.pipelines import PipelineSource


class MissingKey(UserError, AttributeError):
    """A node asks a component's config for what it does not have: most often another kind of it."""

    def __init__(self, source: ComponentSource | PipelineSource, key: str, near: str) -> None:
        path = f"components.{source.name}.path"
        super().__init__(
            f"the config of `{source.name}` ({source.class_name}) has no `{key}`",
            help=near or f"give a component of the same kind with {path}", field=path,
        )  # fmt: skip


class Config(Mapping[str, Any]):
    """A component's config with attribute access; the defaults of its class fill what it omits."""

    def __init__(self, source: ComponentSource | PipelineSource) -> None:
        self._source = source
        self._values = source.config
        self._full: Any = None

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        if key in self._values:
            return self._values[key]
        full = self._complete()
        try:
            return full[key] if isinstance(full, Mapping) else getattr(full, key)
        except (KeyError, AttributeError):
            raise MissingKey(self._source, key, did_you_mean(key, self._values)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _complete(self) -> Any:
        """The config with its class's defaults; the class is imported once one is asked for."""
        if self._full is None:
            from runtime.classes import full_config

            source = self._source
            self._full = full_config(source.library, source.class_name, self._values)
        return self._full


@dataclass(frozen=True)
class Handle:
    """What a node sees of a component, before its weights are read and while they are resident.

    identity  equal for equal content
    dtype     the dtype its weights are used in, as a name; none: as stored
    config    attribute access (`handle.config.in_channels`)
    """

    name: str
    identity: str
    dtype: str | None
    class_name: str = field(compare=False)
    config: Config = field(compare=False, repr=False)

    @classmethod
    def of(cls, source: ComponentSource, dtype: str | None = None) -> Handle:
        """The handle of a component."""
        return cls(source.name, source.identity, dtype, source.class_name, Config(source))


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


class Store:
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
        from runtime import loading, pipelines
        from runtime.device import to_dtype

        key = self.key(source, dtype, device)
        with self._lock:
            if key not in self._held:
                with _collector_off():
                    if isinstance(source, pipelines.PipelineSource):
                        value = pipelines.load(source, dtype=to_dtype(dtype), device=device)
                    else:
                        value = loading.load(
                            fetch(source),
                            dtype=to_dtype(dtype),
                            device=device,
                            trust_remote_code=trust_remote_code,
                        )
                self._held[key] = Resident(key, source.name, loading.nbytes(value), value)
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
def store() -> Store:
    """The store of this process."""
    return Store()
