"""Ctrl-C and SIGTERM: raised where they arrive, and remembered where an import swallows them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Terminated(BaseException):
    """SIGTERM arrived; unwinding removes temporary files, as Ctrl-C does."""


RAISES: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
_arrived: list[int] = []


@contextmanager
def handled() -> Iterator[None]:
    """Raise KeyboardInterrupt and Terminated inside; only a main thread can, others go on as is."""
    _arrived.clear()
    before: dict[int, Handler] = {}
    try:
        with suppress(ValueError):
            for number in RAISES:
                before[number] = signal.signal(number, _arrive)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_arrived() -> None:
    """Raise what arrived and went no further: an import may catch everything and go on."""
    if _arrived:
        raise RAISES[_arrived[-1]]


def _arrive(number: int, frame: FrameType | None) -> None:
    _arrived.append(number)
    raise RAISES[number]
