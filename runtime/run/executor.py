"""The executor interprets plans: it loads, runs, recalls and frees, and answers the calls of nodes.

A node runs between two events; a denoise node is advanced step by step, so that a run can be
cancelled, watched and resumed without any change to it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from runtime.contract.calls import Again, Call
from runtime.contract.declare import Declaration
from runtime.contract.denoising import DenoiseState, StepDone
from runtime.contract.values import Rng, map_tensors, tensors
from runtime.device import memory
from runtime.errors import Cancelled, NodeFailed, UserError, chain
from runtime.events import (
    Event,
    Freed,
    Loaded,
    Loading,
    NodeDone,
    NodeStarted,
    Noted,
    Planned,
    Stepped,
)
from runtime.files.object_store import UploadFailed
from runtime.graph.model import NodeSpec, Ref
from runtime.graph.source_positions import locate
from runtime.plan.items import Free, Load, Recall, Run
from runtime.plan.plan import Plan
from runtime.plan.planner import bound
from runtime.run.memo import Memo
from runtime.run.observer import Watch


@dataclass
class Work:
    """One run in progress: its plan, request ports, and values that are still needed.

    recalled  node to the result that the plan takes from the memo, which may have dropped it since
    state     the node that is stepping and its state after the last step
    """

    plan: Plan
    request: Mapping[str, Any]
    steps: int
    cancelled: Callable[[], bool]
    recalled: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    state: tuple[str, DenoiseState] | None = None


@dataclass(frozen=True)
class Executor:
    """Runs plans on one device.

    load     component name to the loaded object: the network, or a tokenizer, scheduler, processor
    release  forgets a component; whether it was loaded
    short    whether a component is not loaded and would not fit beside those that are
    turn     held while components compute, for loaded ones are shared between threads
    watch    looks on, if there is one
    """

    device: torch.device
    memo: Memo
    load: Callable[[str], Any]
    release: Callable[[str], bool]
    short: Callable[[str], bool]
    turn: AbstractContextManager[Any] = field(default_factory=threading.Lock)
    watch: Watch | None = None

    def run(self, work: Work) -> Generator[Event, None, dict[str, Any]]:
        """Interpret a plan, yielding events; returns the wanted outputs by name."""
        plan = work.plan
        loaded: dict[str, Any] = {}
        try:
            yield Planned(nodes=sum(isinstance(i, Run) for i in plan.items), steps=work.steps)
            yield from self._items(work, loaded)
            # Copies: what the memo keeps must not change with what a caller does to its result.
            return {n: map_tensors(_value(r, work), torch.clone) for n, r in plan.outputs.items()}
        finally:
            for held in (work.values, work.recalled, loaded):
                held.clear()  # a kept exception keeps its frames, and must not keep these
            work.state = None

    def _items(self, work: Work, loaded: dict[str, Any]) -> Iterator[Event]:
        for item in work.plan.items:
            if work.cancelled():
                raise Cancelled
            match item:
                case Load(component=name, nbytes=nbytes):
                    if name not in work.plan.late:
                        yield from self._load(name, nbytes, loaded)
                case Recall(node=name):
                    yield from self._recall(name, work)
                case Run(node=name):
                    yield from self._run(name, work, loaded)
                case Free(node=name):
                    work.values.pop(name, None)
                    yield Freed(node=name)

    def _load(self, name: str, nbytes: int, loaded: dict[str, Any]) -> Iterator[Event]:
        yield Loading(component=name, nbytes=nbytes)
        start = time.perf_counter()
        loaded[name] = self.load(name)
        yield Loaded(component=name, nbytes=nbytes, seconds=time.perf_counter() - start)

    def _late(self, message: Any, work: Work, loaded: dict[str, Any]) -> Iterator[Event]:
        """Load the networks that a step is the first to ask; where memory is short, others go."""
        calls = message if isinstance(message, list) else []
        asked = {call.component.name for call in calls} & work.plan.late
        for name in sorted(asked - set(loaded)):
            for other in sorted(work.plan.late - asked):
                if self.short(name):
                    loaded.pop(other, None)
                    if self.release(other):
                        yield Noted(text=f"memory is short: `{other}` makes room for `{name}`")
            if name not in work.plan.facts.resident:
                nbytes = work.plan.facts.components[name].nbytes
                yield from self._load(name, nbytes, loaded)

    def _recall(self, name: str, work: Work) -> Iterator[Event]:
        kind = work.plan.checked.graph.nodes[name].type
        self.memo.touch(work.plan.keys[name])
        work.values[name] = map_tensors(work.recalled.pop(name), self._here)
        yield NodeDone(node=name, type=kind, seconds=0.0, memoised=True)

    def _run(self, name: str, work: Work, loaded: dict[str, Any]) -> Iterator[Event]:
        node = work.plan.checked.graph.nodes[name]
        known = work.plan.checked.declarations[name]
        yield NodeStarted(node=name, type=node.type)
        start = time.perf_counter()
        inputs = self._inputs(node, known, work)
        try:
            asked = self._start(node, known, inputs, work, loaded)
            tiled: list[Any] = []
            out = yield from self._drive(asked, name, work, loaded, tiled)
            if not isinstance(out, known.cls.Out):
                raise TypeError(f"{node.type} returned {type(out).__name__}, not its Out")
            out = map_tensors(out, self._here)
            if self.watch:
                self.watch.made(name, out)
        except (UserError, Cancelled, NodeFailed, UploadFailed):
            raise
        except Exception as problem:
            explained = self.watch.explain(name, problem) if self.watch else problem
            raise self._failed(node, inputs, work, explained) from explained
        work.values[name] = out
        if name in work.plan.lasting and not tiled and self.memo.takes(out):
            self.memo.put(work.plan.keys[name], map_tensors(out, _to_host))
        yield self._done(node, time.perf_counter() - start)

    def _done(self, node: NodeSpec, seconds: float) -> NodeDone:
        """The event of a node that ran, with the memory that it leaves in use."""
        now = memory(self.device)
        used = (now.allocated, now.peak_allocated) if now.allocated else (now.host, now.host_peak)
        return NodeDone(node=node.name, type=node.type, seconds=seconds,
                        nbytes=used[0], peak_nbytes=used[1])  # fmt: skip

    def _start(
        self,
        node: NodeSpec,
        known: Declaration,
        inputs: dict[str, Any],
        work: Work,
        loaded: dict[str, Any],
    ) -> Any:
        """Build the node with its components and call it: a result, or the generator that asks."""
        made: dict[str, Any] = {}
        for name, component in bound(node, known).items():
            fact = work.plan.facts.components.get(component)
            if fact is None:
                made[name] = None
            else:
                made[name] = fact.handle if fact.nbytes else self._module(component, loaded)
        params = {k: tuple(v) if isinstance(v, list) else v for k, v in node.params.items()}
        with self.turn if made else nullcontext(), torch.inference_mode():
            return known.cls(**made, **params).run(**inputs)

    def _drive(
        self, asked: Any, name: str, work: Work, loaded: dict[str, Any], tiled: list[Any]
    ) -> Generator[Event, None, Any]:
        """Answer a node's calls until it returns. No context stays open across a yield of ours.

        tiled  is filled with networks that memory forced into tiles, which they are out of again
        """
        if not isinstance(asked, Generator):
            return asked
        reply: Any = None
        since = time.perf_counter()
        try:
            while True:
                with self.turn, torch.inference_mode():
                    try:
                        again = isinstance(reply, Again)
                        message = asked.throw(reply) if again else asked.send(reply)
                    except StopIteration as stop:
                        return stop.value
                yield from self._late(message, work, loaded)
                reply = yield from self._fitting(message, name, loaded, tiled)
                if isinstance(message, StepDone):
                    work.state = (name, message.state)
                    if self.watch:
                        self.watch.stepped(name, message)
                    index, seconds = message.state.index, time.perf_counter() - since
                    yield Stepped(node=name, index=index, count=message.count, seconds=seconds)
                    since = time.perf_counter()
                elif isinstance(message, Noted):
                    yield message
                if work.cancelled():
                    raise Cancelled
        finally:
            asked.close()
            for net in tiled:
                net.disable_tiling()

    def _fitting(
        self, message: Any, node: str, loaded: dict[str, Any], tiled: list[Any]
    ) -> Generator[Event, None, Any]:
        """The reply to a message; where memory is out, once more with VAEs that work in tiles."""
        while True:
            try:
                with self.turn, torch.inference_mode():
                    return self._reply(message, node, loaded)
            except torch.OutOfMemoryError as problem:
                nets = {} if tiled else whole_vaes(message, loaded)
                if not nets:
                    raise
                traceback.clear_frames(problem.__traceback__)  # or its tensors would stay
            for net in nets.values():
                net.enable_tiling()
            tiled += nets.values()
            yield Noted(text=f"memory is short: {', '.join(nets)} works in tiles (`vae.tiling`)")
            if any(call.batched.get("cache") is not None for call in message):
                return Again()

    def _reply(
        self, message: Any, node: str, loaded: dict[str, Any]
    ) -> list[tuple[Any, ...]] | None:
        if isinstance(message, list):
            return [self._answer(call, node, loaded) for call in message]
        if not isinstance(message, StepDone | Noted):
            raise TypeError(f"a node yields lists of calls, or StepDone; this is {message!r:.80}")
        return None

    def _answer(self, call: Call, node: str, loaded: dict[str, Any]) -> tuple[Any, ...]:
        net = self._module(call.component.name, loaded)
        batched = map_tensors(dict(call.batched), self._here)
        with self.watch.calling(node, call, net) if self.watch else nullcontext():
            return call.forward(net, **batched, **call.shared)

    def _module(self, component: str, loaded: dict[str, Any]) -> Any:
        if component not in loaded:
            loaded[component] = self.load(component)
        return loaded[component]

    def _inputs(self, node: NodeSpec, known: Declaration, work: Work) -> dict[str, Any]:
        found = {}
        for port, ref in node.inputs.items():
            value = _value(ref, work)
            if value is not None or known.inputs[port].required:
                found[port] = value
        return found

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.device == self.device else tensor.to(self.device)

    def _failed(
        self, node: NodeSpec, inputs: dict[str, Any], work: Work, problem: Exception
    ) -> NodeFailed:
        graph = work.plan.checked.graph
        position = locate(f"nodes.{node.name}", graph.sources, graph.edits)
        cause, *causes = map(_said, chain(problem))
        if isinstance(problem, torch.OutOfMemoryError):
            cause += "; a smaller height, width or num_frames needs less, or placement=cpu"
        shown = [f"{port}: {describe(value)}" for port, value in inputs.items()]
        traceback.clear_frames(problem.__traceback__)  # its tensors: the message says enough
        inputs.clear()
        return NodeFailed(node.name, node.type, str(position), shown, cause, causes=causes)


def whole_vaes(message: Any, loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Networks that a message asks, by name, that could work in tiles and do not."""
    calls = message if isinstance(message, list) else []
    nets = {call.component.name: loaded.get(call.component.name) for call in calls}
    return {n: net for n, net in nets.items() if getattr(net, "use_tiling", None) is False}


def _value(ref: Ref, work: Work) -> Any:
    if ref.node == "request":
        return work.request[ref.port]
    return getattr(work.values[ref.node], ref.port)


def describe(value: Any) -> str:
    """A value in a message: its tensors as shape, dtype and device; never its content."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, int | float | bool | None):
        return repr(value)
    found = [] if isinstance(value, Rng) else tensors(value)
    shapes = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')} {t.device}" for t in found]
    return f"{type(value).__name__} {', '.join(shapes)}".strip()


def _said(problem: BaseException) -> str:
    return traceback.format_exception_only(problem)[-1].strip()


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu()
