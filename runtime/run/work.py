"""One run in progress: its plan, the values that are still needed, and what it has to tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from runtime.contract.denoising import DenoiseState
from runtime.contract.rules import Rung
from runtime.contract.values import map_tensors
from runtime.device import CPU
from runtime.events import Event, Freed, Noted, Planned
from runtime.graph.model import Ref
from runtime.observe.observer import Observer
from runtime.plan.items import Item, Load, Recall, RunNode
from runtime.plan.plan import Plan
from runtime.provenance.record import Happened
from runtime.run.memo import ResultMemo, StoredResult
from runtime.run.residency import WantedComponent


@dataclass(eq=False)
class Work:
    """A run in progress.

    request    values of the request's ports
    steps      denoising steps, if the request tells
    cancelled  asked before every call
    wanted     component to how it is had
    recalled   node to the result that the plan takes from the memo, which may have dropped it since
    batch      the most runs that may share a call with this one
    values     of nodes, as long as they are needed
    state      the node that is stepping and its state after the last step
    modes      networks that memory forced into tiles, by component
    awaited    whether somebody waits for its events: else it stands still
    """

    plan: Plan
    request: Mapping[str, Any]
    steps: int
    cancelled: Callable[[], bool]
    wanted: Mapping[str, WantedComponent]
    memo: ResultMemo
    observer: Observer | None = None
    recalled: dict[str, StoredResult] = field(default_factory=dict)
    batch: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    state: tuple[str, DenoiseState] | None = None
    modes: dict[str, Rung] = field(default_factory=dict)
    happened: Happened = field(default_factory=Happened)
    events: deque[Event] = field(default_factory=deque)
    outputs: dict[str, Any] | None = None
    problem: BaseException | None = None
    awaited: bool = False

    def __post_init__(self) -> None:
        self._queues: dict[str, deque[Item]] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._numbers: dict[Ref, float] = {}
        self._done: set[str] = set(self.values)
        loads: list[Load] = []
        for item in self.plan.items:
            if isinstance(item, Load):
                loads.append(item)
            elif isinstance(item, RunNode | Recall):
                queue = self._queues.setdefault(self.plan.devices[item.node], deque())
                queue += [load for load in loads if not load.at_call]
                loads.clear()
                queue.append(item)
        self.devices = tuple(self._queues)
        self._nodes = {i.node for i in self.plan.items if isinstance(i, RunNode | Recall)}

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.outputs is not None or self.problem is not None

    def begin(self) -> None:
        """Tell what is to come; a plan that runs no node is over at once."""
        self.emit(Planned(nodes=len(self._nodes), steps=self.steps))
        self.end_if_done()

    def emit(self, event: Event) -> None:
        """Tell whoever iterates over the run."""
        self.events.append(event)

    def note(self, node: str, *texts: str) -> None:
        """Tell the user what a node has to say, once."""
        noted = {text for texts in self._notes.values() for text in texts}
        self._notes[node] = (*self._notes.get(node, ()), *texts)
        for text in dict.fromkeys(texts):
            if text not in noted:
                self.emit(Noted(text=text))

    def notes(self, node: str) -> tuple[str, ...]:
        """Notes of a node and of those that its value came from."""
        inputs = self.plan.checked.graph.nodes[node].inputs.values()
        above = [
            text for ref in inputs if ref.node in self._notes for text in self._notes[ref.node]
        ]
        own = self._notes.get(node, ())
        self._notes[node] = tuple(dict.fromkeys((*above, *own)))
        return self._notes[node]

    def next(self, device: str) -> Item | None:
        """What is to be done next on a device; none where it is done, or waits for another one."""
        queue = self._queues.get(device)
        if not queue:
            return None
        item = next(i for i in queue if not isinstance(i, Load))
        if self.plan.after.get(item.node, frozenset()) - self._done - {"request"}:
            return None
        return queue.popleft()

    def value(self, ref: Ref) -> Any:
        """The value of an edge."""
        if ref.node == "request":
            return self.request[ref.port]
        return getattr(self.values[ref.node], ref.port)

    def number(self, ref: Ref) -> Any:
        """The value of an edge that is a number, also after its node's values were dropped."""
        return self.request[ref.port] if ref.node == "request" else self._numbers[ref]

    def done(self, node: str, out: Any) -> None:
        """Keep a node's value, and drop those that are not needed any more."""
        self.values[node] = out
        named = zip(out._fields, out, strict=True)
        self._numbers |= {Ref(node, n): v for n, v in named if isinstance(v, int | float)}
        self.notes(node)
        self._done.add(node)
        outputs = {ref.node for ref in self.plan.outputs.values()}
        for name in [n for n in self.values if n not in outputs]:
            if self.plan.readers.get(name, frozenset()) <= self._done:
                del self.values[name]
                self.emit(Freed(node=name))
        self.end_if_done()

    def end_if_done(self) -> None:
        """End with the wanted outputs, on the host, once every node of the plan has run.

        Copies: what the memo keeps must not change with what a caller does to its result.
        """
        if self.over or not self._nodes <= self._done:
            return
        outputs = self.plan.outputs.items()
        self.outputs = {n: map_tensors(self.value(ref), _copy) for n, ref in outputs}
        self.release()

    def fail(self, problem: BaseException) -> None:
        """End with an error."""
        if not self.over:
            self.problem = problem
        self.release()

    def release(self) -> None:
        """Drop all values: a kept exception keeps its frames, and must not keep these."""
        for held in (self.values, self.recalled, self._queues):
            held.clear()
        self.state = None

    def drain(self) -> Iterator[Event]:
        """The events since the last time."""
        while self.events:
            yield self.events.popleft()


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(CPU, copy=True)
