"""What goes to stderr: notes by level, and errors without a traceback."""

from __future__ import annotations

import sys
import traceback
from typing import TextIO

from cli.messages import with_flags
from runtime import GraphError, UserError

LEVELS = ("debug", "info", "warning", "error")


class Console:
    """Notes on a stream, from a level upwards. command, graph: whose flags they name."""

    def __init__(
        self,
        level: str = "info",
        stream: TextIO | None = None,
        command: str = "generate",
        graph: str = "",
    ) -> None:
        self.level, self.stream = level, stream or sys.stderr
        self.command, self.graph = command, graph

    def shows(self, level: str) -> bool:
        """Whether notes of a level are printed."""
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def note(self, text: str, level: str = "info") -> None:
        """Print one note."""
        if self.shows(level):
            print(with_flags(text, self.command, self.graph), file=self.stream, flush=True)


def report(
    problem: BaseException,
    shown: str,
    *,
    command: str = "generate",
    graph: str = "",
    debug: bool = False,
) -> None:
    """Say on stderr what went wrong and what to write instead.

    shown           what speaks: `sglang generate`
    command, graph  whose flags the message names
    """
    if debug:
        traceback.print_exception(problem)
    if isinstance(problem, UserError):
        message, help = problem.message, with_flags(problem.help, command, graph)
        if not isinstance(problem, GraphError):  # there `request.height` is an edge
            message = with_flags(message, command, graph)
    else:
        message = str(problem) or type(problem).__name__
        if isinstance(problem, KeyError | AttributeError | TypeError | AssertionError):
            message = f"{type(problem).__name__}: {message}"
        help = "" if debug else "--debug shows where it happened"
    start = "\n" if "\n" in message else " "
    print(f"{shown}: error:{start}{message}", file=sys.stderr)
    if help:
        print(f"help: {help}", file=sys.stderr, flush=True)
