"""Events: one stream feeds progress bar, perf dump, job progress and metrics. Imports no torch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; time is `time.perf_counter()` seconds."""

    time: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """The plan is made. nodes: how many run. steps: denoising steps, if the request tells."""

    nodes: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Loading(Event):
    """A component starts to load. nbytes: predicted size of its weights."""

    component: str
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class Loaded(Event):
    """A component is resident."""

    component: str
    nbytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Moved(Event):
    """A component that was parked on the host is on its device again."""

    component: str
    nbytes: int
    to: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evicted(Event):
    """A component left its device to make room."""

    component: str
    nbytes: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Recovered(Event):
    """A call ran out of memory and is tried again. rung: what was done about it."""

    node: str
    rung: str
    component: str


@dataclass(frozen=True, kw_only=True)
class NodeStarted(Event):
    """A node starts."""

    node: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """A denoising step is done. index: from 1. count: of the run. seconds: this step's."""

    node: str
    index: int
    count: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    """A node tells the user something; it goes on."""

    text: str


@dataclass(frozen=True, kw_only=True)
class NodeDone(Event):
    """A node is done; memoised: its result was known from an earlier run.

    nbytes, peak_nbytes  in use after it, and the most so far: of the device, or of this process
    """

    node: str
    type: str
    seconds: float
    memoised: bool = False
    nbytes: int | None = None
    peak_nbytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Freed(Event):
    """A node's values had their last use."""

    node: str
