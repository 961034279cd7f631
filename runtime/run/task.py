"""One node of a run in progress, from its inputs to its outputs, as a generator of calls.

A task yields the calls that it waits for, or nothing where others may go first; between two of
those everything is quick. The loop of its device answers.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch

from runtime.checkpoint.skeleton import building
from runtime.contract.batches import Answer, AnyCall
from runtime.contract.declare import Declaration
from runtime.contract.denoising import StepDone
from runtime.contract.rules import DEFAULT_RUNGS, Rung
from runtime.contract.values import map_tensors
from runtime.device import CPU, Stopwatch, memory
from runtime.errors import Cancelled, NodeFailed, UserError
from runtime.events import NodeDone, NodeStarted, Noted, Stepped
from runtime.files.object_store import UploadFailed
from runtime.graph.model import NodeSpec
from runtime.observe.faults import check_outputs, node_failed
from runtime.observe.size_check import as_asked, asked_size
from runtime.plan.planner import bound
from runtime.run.residency import Residency
from runtime.run.work import Work

Steps: TypeAlias = Generator[list[AnyCall] | None, list[Answer] | None, None]
COMPLETE_ERRORS = (UserError, Cancelled, NodeFailed, UploadFailed)  # errors that say all themselves


class Restart(Exception):
    """Thrown into a task whose network changed its mode: its node begins again, or resumes."""


class Task:
    """A node that runs on a device.

    calls    what it waits for; none: it can go on
    answers  to those, once they are there
    follows  the task of another run that computes the same
    rungs    what was already done where its calls ran out of memory
    """

    def __init__(self, work: Work, node: str, device: torch.device, residency: Residency) -> None:
        self.work, self.node, self.device, self._residency = work, node, device, residency
        self.spec: NodeSpec = work.plan.checked.graph.nodes[node]
        self.known: Declaration = work.plan.checked.declarations[node]
        self.calls: list[AnyCall] = []
        self.answers: list[Answer | None] = []
        self.follows: Task | None = None
        self.rungs: set[tuple[Rung, str]] = set()
        self.watch = Stopwatch(device)
        self.result: Any = None
        self.over = False
        self._step = Stopwatch(device)
        self._steps = self._life()
        self._began = False

    @property
    def key(self) -> str:
        """The content key of its result."""
        return self.work.plan.keys[self.node]

    @property
    def lasts(self) -> bool:
        """Whether its result may be shared with others."""
        return self.node in self.work.plan.lasting and self.work.memo.max_bytes > 0

    @property
    def ready(self) -> bool:
        """Whether it can go on: every call that it waits for is answered."""
        return not self.over and self.follows is None and None not in self.answers

    def advance(self, problem: BaseException | None = None) -> None:
        """Go on to the next calls, or to the end. problem: of a call, which fails the node."""
        answers = [a for a in self.answers if a is not None] if self.calls else None
        self.calls, self.answers = [], []
        try:
            if problem is not None:
                wanted = self._steps.throw(problem)
            elif self._began:
                wanted = self._steps.send(answers)
            else:
                self._began, wanted = True, next(self._steps)
        except StopIteration:
            self.over = True
        except BaseException as failure:
            self.over = True
            self.work.fail(failure)
            if not isinstance(failure, Exception):
                raise
        else:
            self.calls, self.answers = wanted or [], [None] * len(wanted or [])

    def close(self) -> None:
        """Stop where it is."""
        self.over = True
        self._steps.close()

    def ladder(self, component: str) -> tuple[Rung, ...]:
        """What may be done, in order, when a call of this component's runs out of memory."""
        declared = self.work.plan.checked.declarations
        own = {r for n, d in declared.items() if self._binds(n, component) for r in d.ladder}
        return (*DEFAULT_RUNGS, *sorted(own - {*DEFAULT_RUNGS}))

    def _binds(self, node: str, component: str) -> bool:
        checked = self.work.plan.checked
        return component in bound(checked.graph.nodes[node], checked.declarations[node]).values()

    def finish(self, out: Any, *, memoised: bool = False) -> None:
        """Hand the result to the run."""
        self.over = True
        if memoised:
            done = NodeDone(node=self.node, type=self.spec.type, seconds=0.0, memoised=True)
        else:
            done = self._done()
        self.result = out
        self.work.emit(done)
        self.work.done(self.node, out)

    def _life(self) -> Steps:
        """Acquire, start, answer, check, keep."""
        work = self.work
        work.emit(NodeStarted(node=self.node, type=self.spec.type))
        inputs = self._inputs()
        try:
            out = yield from self._run(inputs)
            check_outputs(self.known, out)
            out = as_asked(out, asked_size(work.plan.checked, self.node, work.number))
            out = map_tensors(out, self._here)
            if work.observer:
                work.observer.node_result(self.node, out)
        except COMPLETE_ERRORS:
            raise
        except Exception as problem:
            observer = work.observer
            explained = observer.explain(self.node, problem) if observer else problem
            failed = node_failed(work.plan.checked, self.node, inputs, explained)
            inputs.clear()
            raise failed from explained
        if self.lasts and not work.modes and work.memo.takes(out):
            work.memo.put(self.key, map_tensors(out, _to_host), work.notes(self.node))
        self.finish(out)

    def _run(self, inputs: dict[str, Any]) -> Generator[Any, Any, Any]:
        """The node's own code; where memory changes how a network works, from its last step on."""
        with ExitStack() as stack:
            made = self._components(stack)
            params = {
                k: tuple(v) if isinstance(v, list) else v for k, v in self.spec.params.items()
            }
            while True:
                with building, torch.inference_mode(), self.watch:
                    asked = self.known.cls(**made, **params).run(**inputs)
                if not isinstance(asked, Generator):
                    return asked
                try:
                    return (yield from self._drive(asked))
                except Restart:
                    inputs = self._resumed(inputs)

    def _drive(self, asked: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Pass a node's calls up and its answers down. No context is open across a yield."""
        reply: Any = None
        try:
            while True:
                try:
                    with building, torch.inference_mode(), self.watch, self._step:
                        message = asked.send(reply)
                except StopIteration as stop:
                    return stop.value
                reply = None
                if isinstance(message, list):
                    reply = (yield message) if message else []
                elif isinstance(message, StepDone):
                    self._stepped(message)
                    yield None
                elif isinstance(message, Noted):
                    self.work.note(self.node, message.text)
                else:
                    raise TypeError(
                        f"a node yields lists of calls, or StepDone; this is {message!r:.80}"
                    )
                if self.work.cancelled():
                    raise Cancelled
        finally:
            asked.close()

    def __enter__(self) -> None:
        """Count what is launched from here on as work of the node and of its step."""
        self.watch.__enter__()
        self._step.__enter__()

    def __exit__(self, *_: object) -> None:
        """Until here."""
        self._step.__exit__()
        self.watch.__exit__()

    def _stepped(self, message: StepDone) -> None:
        work, state = self.work, message.state
        work.state = (self.node, state)
        if work.observer:
            work.observer.stepped(self.node, message)
        if self.device != CPU:  # elsewhere a load would take cores from the steps
            for component in message.touches & work.wanted.keys():
                self._residency.prefetch(work.wanted[component], work.emit)
        seconds, self._step = self._step.seconds(), Stopwatch(self.device)
        work.emit(Stepped(node=self.node, index=state.index, count=message.count, seconds=seconds))

    def _resumed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs of a node that begins again: after the step that it has done."""
        node, state = self.work.state or ("", None)
        return {**inputs, "resume": state} if node == self.node and self._resumes else inputs

    @property
    def _resumes(self) -> bool:
        return "resume" in self.known.inputs

    def _components(self, stack: ExitStack) -> dict[str, Any]:
        """What the node's component fields get: handles of networks, and the tools themselves."""
        made: dict[str, Any] = {}
        for name, component in bound(self.spec, self.known).items():
            fact = self.work.plan.facts.components.get(component)
            if fact is None:
                made[name] = None
            elif fact.variant.is_network:
                made[name] = fact.handle
            else:
                lease = self._residency.acquire(self.work.wanted[component], self.work.emit)
                made[name] = stack.enter_context(lease)
        return made

    def _inputs(self) -> dict[str, Any]:
        found = {}
        for port, ref in self.spec.inputs.items():
            value = self.work.value(ref)
            if value is not None or self.known.inputs[port].required:
                found[port] = map_tensors(value, self._here)
        return found

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.device == self.device else tensor.to(self.device)

    def _done(self) -> NodeDone:
        """The event of a node that ran, with the memory that it leaves in use."""
        seconds, now = self.watch.seconds(), memory(self.device)
        used = (now.allocated, now.peak_allocated) if now.allocated else (now.host, now.host_peak)
        return NodeDone(node=self.node, type=self.spec.type, seconds=seconds,
                        nbytes=used[0], peak_nbytes=used[1])  # fmt: skip


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(CPU)
