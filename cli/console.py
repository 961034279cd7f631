"""What goes to stderr: notes by level, and errors without a traceback."""

from __future__ import annotations

import sys
import traceback
from typing import TextIO

from cli.messages import with_flags
from runtime import GraphError, UserError
from runtime.standard_streams import STDOUT, is_stdout_failure

LEVELS = ("debug", "info", "warning", "error")


class RecordError(UserError):
    """An error about a file's record; its config paths are not rewritten as flags."""


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

    def note(self, text: str, level: str = "info", *, paths_as_they_are: bool = False) -> None:
        """Print one note; its config paths are written as flags, unless they are a file's own."""
        if self.shows(level):
            printed = text if paths_as_they_are else with_flags(text, self.command, self.graph)
            print(printed, file=self.stream, flush=True)


def report(
    problem: BaseException,
    prefix: str,
    *,
    command: str = "generate",
    graph: str = "",
    debug: bool = False,
) -> None:
    """Print an error and its help to stderr.

    prefix          the command, such as `sglang generate`
    command, graph  determine the flags that the message names
    """
    if debug:
        traceback.print_exception(problem)
    if isinstance(problem, UserError):
        message, help = problem.message, with_flags(problem.help, command, graph)
        if not isinstance(problem, GraphError | RecordError):  # `request.height` is an edge there
            message = with_flags(message, command, graph)
    else:
        message = str(problem) or type(problem).__name__
        if is_stdout_failure(problem):
            reason = str(getattr(problem, "strerror", "")).lower()
            message = f"{STDOUT} cannot be written: {reason}"
        if isinstance(problem, KeyError | AttributeError | TypeError | AssertionError):
            message = f"{type(problem).__name__}: {message}"
        help = "" if debug else "--debug shows where it happened"
    start = "\n" if "\n" in message else " "
    print(f"{prefix}: error:{start}{message}", file=sys.stderr)
    if help:
        print(f"help: {help}", file=sys.stderr, flush=True)
