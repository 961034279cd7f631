"""Errors that name the place, the value that was found and expected, and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class UserError(Exception):
    """A mistake the user can mend: the command line exits with 2, HTTP answers 4xx.

    message  what is wrong, naming field and value
    help     what to write instead
    field    the flag, key or port at fault
    """

    def __init__(self, message: str, *, help: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message, self.help, self.field = message, help, field

    def __str__(self) -> str:
        return f"{self.message}\n    help: {self.help}" if self.help else self.message


@dataclass(frozen=True, order=True)
class Position:
    """A place in a source: file (or `command line`), line and column from 1; 0 is unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True)
class Problem:
    """One finding of the checker: position, path in the graph, what is wrong, what to write."""

    position: Position
    path: str
    message: str
    help: str = ""

    def __str__(self) -> str:
        head = f"{self.position}  {self.path}".rstrip()
        lines = [head, *(f"    {x}" for x in self.message.split("\n"))]
        return "\n".join(lines + ([f"    help: {self.help}"] if self.help else []))


class GraphError(UserError):
    """All problems of one graph, sorted by position."""

    def __init__(self, graph: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        tail = f"{count} problem{'s' * (count != 1)} in graph `{graph}`. Nothing was loaded."
        super().__init__("\n".join([*map(str, self.problems), tail]))


class NodeFailed(Exception):
    """A node raised while it ran; the cause is chained.

    Names node, type, place in the graph, its inputs as shape, dtype and device, and what the cause
    was itself caused by, nearest first. place: file and line of a user's code, which come first.
    """

    def __init__(
        self,
        node: str,
        type: str,
        position: str,
        inputs: Sequence[str],
        cause: str,
        *,
        causes: Sequence[str] = (),
        place: str = "",
    ) -> None:
        lines = [*inputs, *(f"caused by {cause_text}" for cause_text in causes)]
        details = "".join(f"\n    {line}" for line in lines)
        head = f"{place}  {cause}\n    in " if place else ""
        failed = f"node `{node}` ({type}, {position}) failed"
        super().__init__(f"{head}{failed}{details}" if place else f"{failed}: {cause}{details}")
        self.node = node


class NotFinite(ArithmeticError):
    """A tensor holds NaN or infinity: nothing that follows from it is a result."""


class Cancelled(Exception):
    """The run was cancelled between two steps."""


def exception_chain(problem: BaseException) -> list[BaseException]:
    """An exception, what it was raised from, and so on down, as a traceback would show them."""
    found: list[BaseException] = []
    here: BaseException | None = problem
    while here is not None and here not in found:
        found.append(here)
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
    return found


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.5, count: int = 1) -> list[str]:
    """The names most like `name`, if any is near enough; one, or as many as `count`."""
    return get_close_matches(name, list(names), n=count, cutoff=cutoff)


def did_you_mean(name: str, names: Iterable[str], form: str = "`{}`") -> str:
    """`did you mean X?`, or nothing where no name is near."""
    best = nearest(name, names)
    return f"did you mean {form.format(best[0])}?" if best else ""
