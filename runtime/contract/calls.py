"""Calls of networks: nodes yield them, and the executor sends the results back.

A generator of type `Asking[T]` yields `list[Call]`, is sent one tuple of tensors per call, and
returns a T.
No `no_grad`, `autocast` or other context may be open around a `yield`: it would leak to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Concatenate, Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")
N = TypeVar("N")  # a component, by its Protocol
STATELESS: Any = type("Stateless", (), {"__repr__": lambda self: "STATELESS"})()


class Call(NamedTuple, Generic[N]):
    """One forward pass that a node asks for.

    component  the node's component field (a handle: name, config, identity)
    forward    module-level function `(net, **batched, **shared)`: a tuple, batch-first
    batched    one entry per sample along axis 0; a list is ragged, one item per sample. An entry of
               one sample beside others of several stands for each of them
    shared     hashable values, equal within a batch
    state      the state that the previous call of a stateful network returned (None at first);
               it is passed as `state`, and such a call is never batched. STATELESS: no state
    """

    component: N
    forward: Callable[Concatenate[N, ...], tuple[Any, ...]]
    batched: Mapping[str, object]
    shared: Mapping[str, object] = {}
    state: object = STATELESS

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the forward beside `batched`."""
        carried = {} if self.state is STATELESS else {"state": self.state}
        return {**self.shared, **carried}


Asking: TypeAlias = Generator[Any, Any, T]


def gather(*asks: Asking[object]) -> Asking[list[Any]]:
    """Run generators in lockstep, each round's calls together; their results in order."""
    results: list[object] = [None] * len(asks)
    wanted: dict[int, list[Call[object]]] = {}

    def advance(i: int, answer: list[tuple[object, ...]] | None) -> None:
        try:
            wanted[i] = asks[i].send(answer)
        except StopIteration as stop:
            results[i] = stop.value
            wanted.pop(i, None)

    for i in range(len(asks)):
        advance(i, None)
    while wanted:
        sizes = {i: len(calls) for i, calls in wanted.items()}
        answers = yield [call for calls in wanted.values() for call in calls]
        for i, size in sizes.items():
            mine, answers = answers[:size], answers[size:]
            advance(i, mine)
    return results


def answer(ask: object) -> Any:
    """Run a node alone, answering each call at once. A plain result passes through.

    The components of the node are then the modules themselves.
    """
    import torch

    if not isinstance(ask, Generator):
        return ask
    reply: object = None
    while True:
        try:
            message = ask.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = None
        if isinstance(message, list):
            with torch.inference_mode():
                reply = [c.forward(c.component, **c.batched, **c.options) for c in message]
