"""Progress from a run's events: one moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TextIO

from runtime.events import Event, Loaded, Loading, NodeDone, NodeStarted, Noted, Planned, Stepped

BAR = 24  # characters
REDRAW = 0.1  # seconds between two drawings of the moving line
NOTABLE = 0.1  # seconds from which a part of the time is named
LINES = 50  # of steps in a log, at most


class Progress:
    """Shows events of one run. label: `[2/5] `, in front of every line; quiet: show nothing."""

    def __init__(self, stream: TextIO, *, label: str = "", quiet: bool = False) -> None:
        self.stream, self.label, self.quiet = stream, label, quiet
        self.moving = not quiet and stream.isatty()
        self.began = time.perf_counter()
        self.imports = self.loading = 0.0  # seconds
        self.steps = 0
        self.recent: deque[float] = deque(maxlen=8)
        self.drawn = 0.0

    def show(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Stepped):
            self.steps += 1
            self.recent.append(event.seconds)
        elif isinstance(event, Planned):
            self.imports = event.time - self.began
        elif isinstance(event, Loaded):
            self.loading += event.seconds
        if self.quiet:
            return
        if isinstance(event, Noted):
            self.close()
            self._write(f"{self.label}note: {event.text}\n")
        elif self.moving:
            self._move(event)
        else:
            self._print(event)

    def close(self) -> None:
        """Clear the moving line."""
        if self.moving:
            self._write("\r\x1b[K")

    @property
    def rate(self) -> float:
        """Steps per second of late."""
        return len(self.recent) / max(sum(self.recent), 1e-9)

    def summary(self) -> str:
        """The times of planning, loading and steps, in brackets."""
        parts = [
            f"{what} {seconds:.1f} s"
            for what, seconds in (("imports", self.imports), ("loading", self.loading))
            if seconds >= NOTABLE
        ]
        if self.steps:
            parts += [counted(self.steps, "step"), f"{self.rate:.2f} steps/s"]
        return f" ({', '.join(parts)})" if parts else ""

    def _print(self, event: Event) -> None:
        text = ""
        match event:
            case Planned():
                steps = f", {counted(event.steps, 'step')}" if event.steps else ""
                text = f"starts: {counted(event.nodes, 'node')}{steps}"
            case Loading():
                text = f"loading {event.component}{megabytes(event.nbytes)}"
            case Stepped() if is_logged(event.index, event.count):
                text = f"{event.node}: {self._pace(event)}"
            case NodeDone():
                took = "recalled from memory" if event.memoised else f"{event.seconds:.2f} s"
                text = f"{event.node}: {took}"
        if text:
            self._write(f"{self.label}{text}\n")

    def _move(self, event: Event) -> None:
        text = ""
        match event:
            case Loading() | Loaded():
                text = f"loading {event.component}{megabytes(event.nbytes)}"
            case NodeStarted():
                text = event.node
            case Stepped():
                now = time.perf_counter()
                if now - self.drawn < REDRAW and event.index < event.count:
                    return
                self.drawn = now
                full = BAR * event.index // max(event.count, 1)
                bar = "#" * full + "." * (BAR - full)
                text = f"{event.node} [{bar}] {self._pace(event)}"
        if text:
            line = f"{self.label}{text}"[: max(self._width() - 1, 1)]
            self._write(f"\r{line}\x1b[K")

    def _pace(self, event: Stepped) -> str:
        left = (event.count - event.index) / self.rate
        speed = f"{self.rate:.2f} steps/s" if self.rate >= 1 else f"{1 / self.rate:.2f} s/step"
        return f"step {event.index}/{event.count}, {speed}, {clock_text(left)} left"

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def is_logged(index: int, count: int) -> bool:
    """Whether step `index` (from 1) has a line: each, or of very many the first of each part."""
    return index == 1 or index * LINES // count > (index - 1) * LINES // count


def clock_text(seconds: float) -> str:
    """A duration as m:ss, or h:mm:ss."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def counted(number: int, what: str) -> str:
    """A number of things: `1 step`, `2 steps`."""
    return f"{number} {what}{'s' * (number != 1)}"


def megabytes(nbytes: int) -> str:
    """A size in brackets, or nothing where it is not known."""
    return f" ({nbytes / 1e6:.1f} MB)" if nbytes else ""
