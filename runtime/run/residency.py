"""Residency: where every component of the process is; modules are used through leases only.

A component is in exactly one state on a device: absent, moving (it is being loaded or copied),
ready, or host (parked there, its weights ready to be copied). A leased component stays where it is;
of the others the least recently used make room where memory is short.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch

from runtime import device as devices
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.load import nbytes
from runtime.checkpoint.load_pipeline import load_source
from runtime.checkpoint.vanilla_pipeline import PipelineSource
from runtime.checkpoint.variant import Variant
from runtime.events import Event, Evicted, Loaded, Loading, Moved

HEADROOM = (
    1.25  # memory that must be free for a network: its weights, plus this for its activations
)
Emit = Callable[[Event], None]


class State(StrEnum):
    """Where a component is."""

    ABSENT = "absent"
    MOVING = "moving"
    READY = "ready"
    HOST = "host"


class Key(NamedTuple):
    """A variant on a device; a tool has none."""

    variant: Variant
    device: str


@dataclass(frozen=True)
class WantedComponent:
    """A component that a run needs, and how it is loaded.

    nbytes  predicted, of its weights
    park    where it goes when it must leave the device: to the host, else it is dropped
    load    builds and fills it on its device
    """

    name: str
    variant: Variant
    device: torch.device
    nbytes: int
    load: Callable[[], Any] = field(compare=False, repr=False)
    park: bool = False

    @classmethod
    def of(
        cls,
        source: ComponentSource | PipelineSource,
        dtype: str,
        device: torch.device,
        *,
        trusted: bool = False,
        park: bool = False,
    ) -> WantedComponent:
        """A component as its source describes it. dtype: of its weights; empty: as stored."""

        def load() -> Any:
            final = devices.to_dtype(dtype or None)
            return load_source(source, dtype=final, device=device, trust_remote_code=trusted)

        variant = variant_of(source, dtype)
        nbytes = source.nbytes(dtype or None) if variant.is_network else 0
        return cls(source.name, variant, device, nbytes, load, park)

    @cached_property
    def key(self) -> Key:
        """The key of its entry."""
        return Key(self.variant, str(self.device) if self.variant.is_network else "")


def variant_of(source: ComponentSource | PipelineSource, dtype: str) -> Variant:
    """The variant of a component in this dtype, which counts for weights only."""
    if not source.has_weights:
        return Variant(source.identity, source.class_name, kind="tool")
    return Variant(source.identity, source.class_name, dtype)


@dataclass(eq=False)
class ResidencyEntry:
    """A component of the process. leases: calls that use it now. used: when a lease ended."""

    key: Key
    name: str
    park: bool
    value: Any = None
    nbytes: int = 0
    state: State = State.ABSENT
    leases: int = 0
    used: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def idle(self) -> bool:
        """Whether it may leave its device."""
        return self.state is State.READY and not self.leases and self.key.variant.is_network


@dataclass(frozen=True)
class Lease:
    """Holds a component where it is; as a context it gives the module or tool itself."""

    entry: ResidencyEntry
    make_ready: Callable[[], None]

    def __enter__(self) -> Any:
        """Make it ready, and hold it."""
        with self.entry.lock:
            if self.entry.state is not State.READY:
                self.make_ready()
            self.entry.leases += 1
            return self.entry.value

    def __exit__(self, *_: object) -> None:
        """Let it go; it stays ready until memory is short."""
        with self.entry.lock:
            self.entry.leases -= 1
            self.entry.used = time.monotonic()


class Residency:
    """Loads, moves, leases and evicts the components of a process. Safe to use from any thread.

    A component has a lock of its own, so no plan waits for the download of another's. Tools are
    shared too, so none is changed: whoever samples copies the scheduler first.

    free  bytes that can be allocated on a device; a test may make memory short
    """

    def __init__(self, free: Callable[[torch.device], int] = devices.free_bytes) -> None:
        self.free = free
        self._entries: dict[Key, ResidencyEntry] = {}
        self._lock = threading.Lock()
        self._queue: list[tuple[WantedComponent, Emit]] = []
        self._coming: set[Key] = set()
        self._thread: threading.Thread | None = None

    def acquire(self, wanted: WantedComponent, emit: Emit = lambda event: None) -> Lease:
        """A lease: the module or tool, ready on its device for as long as it is open."""
        entry = self._entries.get(wanted.key) or self._entry(wanted)
        return Lease(entry, lambda: self._make_ready(entry, wanted, emit))

    def state(self, key: Key) -> State:
        """Where a component is."""
        entry = self._entries.get(key)
        return entry.state if entry else State.ABSENT

    def resident(self) -> list[ResidencyEntry]:
        """Everything that is loaded, oldest first."""
        with self._lock:
            return [e for e in self._entries.values() if e.state in {State.READY, State.HOST}]

    def coming(self, key: Key) -> bool:
        """Whether a component is being prefetched."""
        return key in self._coming

    def prefetch(self, wanted: WantedComponent, emit: Emit = lambda event: None) -> None:
        """Make a component ready in the transfer thread, where there is room for it."""
        if self.state(wanted.key) not in {State.ABSENT, State.HOST} or not self.fits(wanted):
            return
        with self._lock:
            if wanted.key in self._coming:
                return
            self._coming.add(wanted.key)
            self._queue.append((wanted, emit))
            emit(Loading(component=wanted.name, nbytes=wanted.nbytes))
            if self._thread is None:
                self._thread = threading.Thread(target=self._transfer, name="transfer", daemon=True)
                self._thread.start()

    def make_room(self, wanted: WantedComponent, emit: Emit) -> list[str]:
        """Evict idle components until one that is not ready fits; names of those that went."""
        if not wanted.variant.is_network or self.state(wanted.key) is State.READY:
            return []
        need = int(wanted.nbytes * HEADROOM)
        gone: list[str] = []
        for entry in self._idle(str(wanted.device)):
            if self.free(wanted.device) >= need:
                break
            if self._evict(entry, emit):
                gone.append(entry.name)
        return gone

    def evict(self, device: torch.device, emit: Emit, keep: Key | None = None) -> list[str]:
        """Evict every idle component of a device but one; the names of those that went."""
        idle = [e for e in self._idle(str(device)) if e.key != keep]
        return [e.name for e in idle if self._evict(e, emit)]

    def fits(self, wanted: WantedComponent) -> bool:
        """Whether a component is ready, or there is room for it without evicting another."""
        ready = not wanted.variant.is_network or self.state(wanted.key) is State.READY
        return ready or self.free(wanted.device) >= wanted.nbytes * HEADROOM

    def clear(self) -> None:
        """Forget everything that is not leased."""
        with self._lock:
            self._entries = {k: e for k, e in self._entries.items() if e.leases}

    def _entry(self, wanted: WantedComponent) -> ResidencyEntry:
        with self._lock:
            made = ResidencyEntry(wanted.key, wanted.name, wanted.park)
            return self._entries.setdefault(wanted.key, made)

    def _idle(self, device: str) -> list[ResidencyEntry]:
        """Components of a device that no call uses, least recently used first."""
        with self._lock:
            found = [e for e in self._entries.values() if e.idle and e.key.device == device]
        return sorted(found, key=lambda e: e.used)

    def _make_ready(self, entry: ResidencyEntry, wanted: WantedComponent, emit: Emit) -> None:
        if entry.state is State.READY:
            return
        before, entry.state = entry.state, State.MOVING
        began = time.perf_counter()
        try:
            if before is State.HOST:
                entry.value.to(wanted.device)
            else:
                with _collector_off():
                    entry.value = wanted.load()
                entry.nbytes = nbytes(entry.value)
        except BaseException:
            entry.state = before
            raise
        entry.state = State.READY
        entry.used = time.monotonic()
        seconds = time.perf_counter() - began
        if before is State.HOST:
            emit(
                Moved(
                    component=entry.name, nbytes=entry.nbytes, to=entry.key.device, seconds=seconds
                )
            )
        else:
            emit(Loaded(component=entry.name, nbytes=wanted.nbytes, seconds=seconds))

    def _evict(self, entry: ResidencyEntry, emit: Emit) -> bool:
        with entry.lock:
            if not entry.idle:
                return False
            if entry.park:
                entry.value.to(devices.CPU)
                entry.state = State.HOST
            else:
                entry.value, entry.state = None, State.ABSENT
                with self._lock:
                    self._entries.pop(entry.key, None)
        devices.empty_cache(entry.key.device)
        emit(Evicted(component=entry.name, nbytes=entry.nbytes, device=entry.key.device))
        return True

    def _transfer(self) -> None:
        """Work off the queue; the thread ends with it."""
        while True:
            with self._lock:
                if not self._queue:
                    self._thread = None
                    return
                wanted, emit = self._queue.pop(0)
            # An error is not lost: the run that needs the component tries again, and tells it.
            with suppress(Exception), self.acquire(wanted, emit):
                pass
            self._coming.discard(wanted.key)


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
def residency() -> Residency:
    """The residency of this process."""
    return Residency()
