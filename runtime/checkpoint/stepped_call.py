"""A function in a thread of its own that is run one step at a time.

A loop of a library that calls back at each step is turned inside out: the callback pauses the
thread, and the caller resumes it. The two threads never run at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Pause = Callable[[Any], None]


class CallClosed(BaseException):
    """Raised where the function paused, to end it: it must not catch this."""


class SteppedCall:
    """`work(pause)`, advanced from one `pause(value)` to the next."""

    def __init__(self, work: Callable[[Pause], Any]) -> None:
        self._work = work
        self._thread: threading.Thread | None = None
        self._go, self._came = threading.Semaphore(0), threading.Semaphore(0)
        self._value: Any = None
        self._problem: BaseException | None = None
        self._closed = False
        self.done = False

    def advance(self) -> Any:
        """Run to the next pause, or to the end (`done`): the pause's value, or the result."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._came.acquire()
        if self.done:
            self._thread.join()
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
        value, self._value = self._value, None
        return value

    def close(self) -> None:
        """Stop it where it pauses, or will pause next, and wait until its thread has ended."""
        self._closed = True
        if self._thread is not None and self._thread.is_alive():
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._value = self._work(self._pause)
        except CallClosed:
            pass
        except BaseException as problem:
            self._problem = problem
        finally:
            self.done = True
            self._came.release()

    def _pause(self, value: object) -> None:
        if not self._closed:  # else a wait was interrupted while the function still ran
            self._value = value
            self._came.release()
            self._go.acquire()
        if self._closed:
            raise CallClosed
