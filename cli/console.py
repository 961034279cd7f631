"""What goes to stderr: notes by level, and errors without a traceback."""

from __future__ import annotations

import sys
import traceback
from typing import TextIO

from runtime import UserError

LEVELS = ("debug", "info", "warning", "error")


class Console:
    """Notes on a stream, from a level upwards."""

    def __init__(self, level: str = "info", stream: TextIO | None = None) -> None:
        self.level, self.stream = level, stream or sys.stderr

    def shows(self, level: str) -> bool:
        """Whether notes of a level are printed."""
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def note(self, text: str, level: str = "info") -> None:
        """Print one note."""
        if self.shows(level):
            print(text, file=self.stream, flush=True)


def report(problem: BaseException, command: str, *, debug: bool = False) -> None:
    """Say on stderr what went wrong and what to write instead."""
    if debug:
        traceback.print_exception(problem)
    if isinstance(problem, UserError):
        message, help = problem.message, problem.help
    else:
        message = str(problem) or type(problem).__name__
        if isinstance(problem, KeyError | AttributeError | TypeError | AssertionError):
            message = f"{type(problem).__name__}: {message}"
        help = "" if debug else "--debug shows where it happened"
    start = "\n" if "\n" in message else " "
    print(f"{command}: error:{start}{message}", file=sys.stderr)
    if help:
        print(f"help: {help}", file=sys.stderr, flush=True)
