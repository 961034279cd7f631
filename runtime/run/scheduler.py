"""The loop of a device: receive, group, acquire, run, resume.

One loop owns all tasks of its device, whichever run they belong to. A turn does one small thing:
it lets a task go on, begins the next node of a run, loads a component, or answers one group of
calls. Whoever wants the events of a run turns the loop, so that a run needs no thread of its own;
several threads may turn it, one at a time.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch

from runtime.checkpoint.skeleton import building
from runtime.checkpoint.vae_tiling import tiled
from runtime.contract.batches import Answer, AnyCall, joins, merge_calls, samples, split
from runtime.contract.calls import STATELESS
from runtime.contract.rules import Rung
from runtime.contract.values import map_tensors
from runtime.device import CPU
from runtime.errors import Cancelled
from runtime.events import Event, Loading, NodeDone, Noted, Recovered
from runtime.plan.items import Load, Recall
from runtime.run.memo import StoredResult
from runtime.run.residency import Key, Residency, State, WantedComponent, residency
from runtime.run.task import Restart, Task
from runtime.run.work import Work

NOTHING = nullcontext()


class Waiting(NamedTuple):
    """A call that waits for its answer. place: among the calls of its task."""

    task: Task
    place: int

    @property
    def call(self) -> AnyCall:
        """The call itself."""
        return self.task.calls[self.place]

    @property
    def component(self) -> str:
        """The name of the component that it asks."""
        return str(self.call.component.name)

    @property
    def wanted(self) -> WantedComponent:
        """How that component is had."""
        return self.task.work.wanted[self.component]


class Loop:
    """The loop of one device."""

    def __init__(self, device: torch.device, residency: Residency) -> None:
        self.device, self._residency = device, residency
        self._lock = threading.RLock()
        self._works: list[Work] = []
        self._tasks: dict[Work, Task] = {}
        self._loads: deque[tuple[Work, WantedComponent]] = deque()
        self._announced: set[Key] = set()

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held during a turn. Tools keep state while they work: whoever uses one holds it too."""
        return self._lock

    def add(self, work: Work) -> None:
        """Take a run in."""
        with self._lock:
            self._works.append(work)

    def remove(self, work: Work) -> None:
        """Let a run go; its task stops where it is."""
        with self._lock:
            self._works = [w for w in self._works if w is not work]
            self._loads = deque(load for load in self._loads if load[0] is not work)
            if task := self._tasks.pop(work, None):
                task.close()

    def turn(self) -> bool:
        """Do one thing; False where there is nothing to do here now."""
        with self._lock:
            self._drop_ended()
            if load := next((load for load in self._loads if load[0].awaited), None):
                self._load(*load)
                return True
            if task := next((t for t in self._active() if t.ready), None):
                self._tasks[task.work] = self._tasks.pop(task.work)  # the others come first now
                task.advance()
                return True
            awaited = [work for work in self._works if work.awaited and work not in self._tasks]
            if any(self._begin(work) for work in awaited):
                return True
            group = self._group()
            if group:
                self._answer(group)
            return bool(group)

    def _active(self) -> list[Task]:
        """Tasks of runs whose events somebody waits for, in the order in which they began."""
        return [task for work, task in self._tasks.items() if work.awaited]

    def _drop_ended(self) -> None:
        """Forget tasks that are over, and end runs that were cancelled."""
        for work in self._works:
            if not work.over and work.cancelled():
                work.fail(Cancelled())
        for work, task in [*self._tasks.items()]:
            if work.over or task.over:
                task.close()
                del self._tasks[work]
            elif task.follows is not None and task.follows.over:
                leader, task.follows = task.follows, None
                if leader.result is not None:
                    task.finish(leader.result, memoised=True)

    def _begin(self, work: Work) -> bool:
        """Begin what a run does next on this device, if it can."""
        item = None if work.over else work.next(str(self.device))
        if item is None:
            return False
        if isinstance(item, Load):
            self._loads.append((work, work.wanted[item.component]))
        elif isinstance(item, Recall):
            self._recall(work, item.node, work.recalled.pop(item.node))
        elif (known := self._computed_meanwhile(work, item.node)) is not None:
            self._recall(work, item.node, known)
        else:
            task = Task(work, item.node, self.device, self._residency)
            if task.lasts:
                same = (t for t in self._tasks.values() if t.lasts and t.key == task.key)
                task.follows = next((t for t in same if t.work.memo is work.memo), None)
            self._tasks[work] = task
        return True

    def _computed_meanwhile(self, work: Work, node: str) -> StoredResult | None:
        """A result that another run has left in the memo since this one was planned."""
        return work.memo.find(work.plan.keys[node]) if node in work.plan.lasting else None

    def _recall(self, work: Work, node: str, stored: StoredResult) -> None:
        work.memo.touch(work.plan.keys[node])
        kind = work.plan.checked.graph.nodes[node].type
        work.note(node, *stored.notes)
        work.emit(NodeDone(node=node, type=kind, seconds=0.0, memoised=True))
        work.done(node, map_tensors(stored.value, self._here))

    def _load(self, work: Work, wanted: WantedComponent) -> None:
        """Make the next component ready, before the node that needs it."""
        try:
            if self._announce(wanted, [work]):
                with self._residency.acquire(wanted, work.emit):
                    self._announced.discard(wanted.key)
                self._loads.remove((work, wanted))
        except Exception as problem:
            short = isinstance(problem, torch.OutOfMemoryError)
            if short and self._residency.evict(self.device, work.emit):
                return  # it is tried again, now that there is more room
            self._announced.discard(wanted.key)
            self._loads.remove((work, wanted))
            work.fail(problem)

    def _announce(self, wanted: WantedComponent, works: Sequence[Work]) -> bool:
        """Whether a component may be acquired now; else what is to come is told first."""
        here = self._residency.state(wanted.key) is State.READY
        if here or wanted.key in self._announced or self._residency.coming(wanted.key):
            return True

        def emit(event: Event) -> None:
            for work in works:
                work.emit(event)

        if gone := self._residency.make_room(wanted, emit):
            names = ", ".join(f"`{name}`" for name in gone)
            verb = "makes" if len(gone) == 1 else "make"
            emit(Noted(text=f"memory is short: {names} {verb} room for `{wanted.name}`"))
        if self._residency.state(wanted.key) is State.ABSENT:
            emit(Loading(component=wanted.name, nbytes=wanted.nbytes))
        self._announced.add(wanted.key)
        return False

    def _group(self) -> list[Waiting]:
        """The call that waits longest, and those of other runs that fit into one batch with it."""
        waiting = [
            Waiting(task, place)
            for task in self._active()
            for place, answer in enumerate(task.answers)
            if answer is None
        ]
        if not waiting:
            return []
        first = waiting[0]
        limit = _limit(first)
        if limit == 1 or (common := _common(first)) is None:
            return [first]
        group, count = [first], samples(first.call)
        for other in waiting[1:]:
            more = samples(other.call)
            others = other.task.work not in {one.task.work for one in group}
            if others and count + more <= min(limit, _limit(other)) and _common(other) == common:
                group.append(other)
                count += more
        return group

    def _answer(self, group: list[Waiting]) -> None:
        """Answer a group of calls with one forward."""
        first, works = group[0], [one.task.work for one in group]
        try:
            wanted = first.wanted
            if not self._announce(wanted, works):
                return
            with self._residency.acquire(wanted, first.task.work.emit) as net:
                self._announced.discard(wanted.key)
                answers = self._forward(net, group)
        except torch.OutOfMemoryError as problem:
            traceback.clear_frames(problem.__traceback__)  # or its tensors would stay
            if not self._recover(group):
                self._fail(group, problem)
        except Exception as problem:
            self._announced.clear()  # it may have been the load that failed
            self._fail(group, problem)
        else:
            for one, answer in zip(group, answers, strict=True):
                one.task.answers[one.place] = answer
                one.task.work.happened.batch = max(one.task.work.happened.batch, len(group))

    def _forward(self, net: Any, group: list[Waiting]) -> list[Answer]:
        """One forward for a group, on this device."""
        first = group[0]
        call, observer = first.call, first.task.work.observer
        batched = map_tensors(merge_calls([one.call for one in group]), self._here)
        mode = first.task.work.modes.get(first.component)
        looking = observer.calling(first.task.node, call, net) if observer else NOTHING
        with building, torch.inference_mode(), ExitStack() as others:
            for one in group[1:]:
                others.enter_context(one.task)
            with first.task, tiled(net) if mode is Rung.TILE else NOTHING, looking:
                answer = call.forward(net, **batched, **call.options)
        return split(answer, [samples(one.call) for one in group]) if len(group) > 1 else [answer]

    def _fail(self, group: list[Waiting], problem: Exception) -> None:
        """A call failed: alone it fails its node; of several each is tried alone first."""
        if len(group) > 1:
            for one in group:
                one.task.work.batch = 1
            return
        group[0].task.advance(problem)

    def _recover(self, group: list[Waiting]) -> bool:
        """Take the next step of the ladder that the group's node types declare."""
        first = group[0]
        for rung in first.task.ladder(first.component):
            for one in group:
                if (rung, one.component) in one.task.rungs:
                    break
            else:
                for one in group:
                    one.task.rungs.add((rung, one.component))
                if note := self._take(rung, group):
                    for one in group:
                        one.task.work.emit(Noted(text=f"memory is short: {note}"))
                        one.task.work.emit(
                            Recovered(node=one.task.node, rung=rung, component=one.component)
                        )
                        one.task.work.happened.rungs[one.component] = rung
                    return True
        return False

    def _take(self, rung: Rung, group: list[Waiting]) -> str:
        """Do what a rung says; what was done, in words, or nothing where it changes nothing."""
        first = group[0]
        match rung:
            case Rung.FORGET:
                memo = first.task.work.memo
                on_host = self.device == CPU
                return (
                    "results kept for later requests are dropped"
                    if on_host and memo.clear()
                    else ""
                )
            case Rung.EVICT:
                gone = self._residency.evict(self.device, first.task.work.emit, first.wanted.key)
                return f"{', '.join(f'`{name}`' for name in gone)} left the device" if gone else ""
            case Rung.SPLIT:
                for one in group:
                    one.task.work.batch = 1
                return "calls are answered one by one" if len(group) > 1 else ""
            case Rung.TILE:
                return self._tile(group)

    def _tile(self, group: list[Waiting]) -> str:
        first = group[0]
        with self._residency.acquire(first.wanted) as net:
            if getattr(net, "use_tiling", None) is not False:
                return ""
        for one in group:
            one.task.work.modes[one.component] = Rung.TILE
            if one.call.state not in (STATELESS, None):  # it was made without tiles
                one.task.advance(Restart())
        return f"{first.component} works in tiles (`vae.tiling`)"

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.device == self.device else tensor.to(self.device)


def _limit(one: Waiting) -> int:
    """How many samples may share a call with this one; an observer wants each by itself."""
    return 1 if one.task.work.observer else one.task.work.batch


def _common(one: Waiting) -> tuple[Any, ...] | None:
    """What a call has in common with those that may join it; none for one that runs alone."""
    common = joins(one.call)
    mode = one.task.work.modes.get(one.component)
    return common and (one.wanted.key, mode, common)


@cache
def loop(device: str) -> Loop:
    """The loop of a device in this process."""
    return Loop(torch.device(device), residency())


def follow(works: Sequence[Work]) -> Iterator[tuple[Work, Event]]:
    """Turn the loops until the runs are over, yielding their events as they happen."""
    loops = [loop(device) for device in dict.fromkeys(d for w in works for d in w.devices)]
    for work in works:
        work.begin()
        for device in work.devices:
            loop(device).add(work)
    try:
        while True:
            for work in works:
                for event in work.drain():
                    yield work, event
            if all(work.over for work in works):
                return
            for work in works:
                work.awaited = True
            turned = [each.turn() for each in loops]
            for work in works:
                work.awaited = False
            if not any(turned) and not any(w.events or w.over for w in works):
                raise RuntimeError("a run waits for a node that never runs")
    finally:
        for each in loops:
            for work in works:
                each.remove(work)
