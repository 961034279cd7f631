"""What went in and out of every network and scheduler of a run, whoever called them.

The same hooks serve a graph and a vanilla pipeline: both work with the same classes of modules.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from runtime.contract.calls import Call
from runtime.contract.denoising import StepDone
from runtime.contract.values import tensors
from runtime.device import CPU
from runtime.observe.observer import networks, pieces

SOLVER = "scheduler"  # under which every scheduler's steps are recorded
METHODS = ("encode", "decode")  # of VAEs, whose `forward` nobody calls


@dataclass(frozen=True)
class Record:
    """One sample of one call, on the host.

    part     the network (`transformer`), its part or method (`vae.decode`), or the scheduler
    step     denoising steps that were done before it
    node     that asked for it
    sources  nodes whose values went into the call, as far as they went in unchanged
    inputs   by parameter
    outputs  by name or place
    """

    part: str
    step: int
    node: str
    sources: frozenset[str]
    inputs: Mapping[str, Tensor] = field(repr=False)
    outputs: Mapping[str, Tensor] = field(repr=False)


class Recorder:
    """Watches a run and keeps a record of each sample of each call. Changes nothing."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.stepping: set[str] = set()  # nodes that step
        self._steps = 0
        self._node = ""
        self._sources: frozenset[str] = frozenset()
        self._made: dict[int, tuple[Tensor, str]] = {}  # identity to the tensor and its producer
        self._inside = 0
        # Solver steps between two calls of networks. They count once the node says that it stepped:
        # a schedule is also tried on made-up numbers before it is used.
        self._solved: list[Record] = []
        self._calling = False

    @contextmanager
    def calling(self, node: str, call: Call[Any], net: Any) -> Iterator[None]:
        """Record the networks of a component, and the schedulers of a whole pipeline."""
        self._node = node
        given = {self._made[id(t)][1] for t in tensors(dict(call.batched)) if id(t) in self._made}
        self._sources = frozenset(given)
        self._solved.clear()
        with ExitStack() as stack:
            for name, part in networks(call.component.name, net).items():
                core = getattr(part, getattr(part, "base_model_prefix", ""), None)
                for label, piece in pieces(name, part).items():
                    stack.enter_context(self._hooked(label, piece, depth=int(piece is core)))
                for method in METHODS:
                    if callable(getattr(part, method, None)):
                        stack.enter_context(self._wrapped(f"{name}.{method}", part, method))
            parts = getattr(net, "components", {})
            stack.enter_context(self.solving(p for p in parts.values() if hasattr(p, "step")))
            self._calling = True
            try:
                yield
            finally:
                self._calling = False

    def node_result(self, node: str, out: Any) -> None:
        """Remember who made which tensor; others pass it on."""
        for tensor in tensors(out):
            self._made.setdefault(id(tensor), (tensor, node))

    def stepped(self, node: str, message: StepDone) -> None:
        """Count the step."""
        self.stepping.add(node)
        self._steps += 1
        self.records += self._solved
        self._solved.clear()

    def explain(self, node: str, problem: Exception) -> Exception:
        """The problem itself."""
        return problem

    @contextmanager
    def solving(self, schedulers: Iterator[Any]) -> Iterator[None]:
        """Record steps of schedulers by class: whoever samples may copy them."""
        with ExitStack() as stack:
            for cls in {type(scheduler) for scheduler in schedulers}:
                stack.enter_context(self._wrapped(SOLVER, cls, "step"))
            yield

    @contextmanager
    def _hooked(self, label: str, piece: nn.Module, depth: int) -> Iterator[None]:
        """Record a module. depth: also inside of so many others, as a model below its head is."""

        def before(_: Any, args: Any, kwargs: Any) -> None:
            self._inside += 1

        def after(module: Any, args: Any, kwargs: object, result: Any) -> None:
            self._inside -= 1
            if self._inside <= depth:
                self._keep(label, module.forward, args, kwargs, result)

        hooks = [
            piece.register_forward_pre_hook(before, with_kwargs=True),
            piece.register_forward_hook(after, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _wrapped(self, label: str, owner: object, name: str) -> Iterator[None]:
        """Record a method of an object or a class for a while."""
        plain, own = getattr(owner, name), vars(owner).get(name)

        @functools.wraps(plain)  # callers look at its signature
        def recorded(*args: Any, **kwargs: Any) -> object:
            self._inside += 1
            try:
                result = plain(*args, **kwargs)
            finally:
                self._inside -= 1
            if not self._inside and self._node:  # before, a plan only tries a schedule
                self._keep(label, plain, args, kwargs, result)
            return result

        setattr(owner, name, recorded)
        try:
            yield
        finally:
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

    def _keep(
        self, label: str, forward: Callable[..., Any], args: Any, kwargs: Any, out: object
    ) -> None:
        """Keep the samples of a call."""
        try:
            arguments = inspect.signature(forward).bind_partial(*args, **kwargs).arguments
        except TypeError:  # a module in a wrapper that takes whatever comes
            arguments = {**{str(i): a for i, a in enumerate(args)}, **kwargs}
        arguments.pop("self", None)
        inputs, outputs = flatten_tensors(arguments), flatten_tensors(out)
        count = 1 if label == SOLVER else count_samples(inputs)
        records = self._solved if label == SOLVER and not self._calling else self.records
        for i in range(count):
            records.append(
                Record(
                    label, self._steps, self._node, self._sources,
                    sample(inputs, i, count), sample(outputs, i, count),
                )
            )  # fmt: skip


def flatten_tensors(value: Any, name: str = "") -> dict[str, Tensor | list[Tensor]]:
    """Tensors in what a module takes or gives, by dotted name; lists of tensors stay lists."""
    if isinstance(value, Tensor):
        return {name or "0": value}
    if isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value):
        return {name or "0": value}
    if isinstance(value, Mapping):
        named = {str(k): v for k, v in value.items()}
    elif isinstance(value, tuple | list):
        named = {str(i): v for i, v in enumerate(value)}
    elif isinstance(mode := getattr(value, "mean", None), Tensor):
        named = {"mean": mode}  # a distribution
    else:
        named = {}
    prefix = f"{name}." if name else ""
    return {
        k: v for n, child in named.items() for k, v in flatten_tensors(child, prefix + n).items()
    }


def count_samples(inputs: Mapping[str, Tensor | list[Tensor]]) -> int:
    """How many samples a call has: by the first list, or tensor of two axes or more."""
    for value in inputs.values():
        if isinstance(value, list):
            return len(value)
        if value.ndim > 1:
            return len(value)
    return 1


def sample(found: Mapping[str, Tensor | list[Tensor]], i: int, count: int) -> dict[str, Tensor]:
    """Sample i of a call, copied to the host; what is not one per sample goes with each."""
    made: dict[str, Tensor] = {}
    for name, value in found.items():
        own = value[i] if len_of(value) == count else value
        for j, one in enumerate(own if isinstance(own, list) else [own]):
            label = f"{name}.{j}" if isinstance(own, list) else name
            made[label] = one.detach().to(CPU, copy=True)
    return made


def len_of(value: Tensor | list[Tensor]) -> int:
    """Length of a list or of a tensor's first axis; 0 where it has none."""
    return 0 if isinstance(value, Tensor) and value.ndim == 0 else len(value)
