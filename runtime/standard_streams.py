"""stdout and stderr of a command, whatever the locale and whoever reads them. Imports no torch.

What stdout cannot encode is escaped. A reader of stderr that has gone, or a full disk behind it,
loses notes and never the result; a failure of stdout is an OSError whose filename is STDOUT.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any

STDOUT = "standard output"
ESCAPED = "sglang_graph.escaped"


def open_standard_streams() -> None:
    """Give the process streams that keep these promises; call it first in a process of its own.

    A closed descriptor becomes the null device: else the next file that is opened would get its
    number, and what libraries print would go into that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    codecs.register_error(ESCAPED, _escape)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # open as long as the process
    sys.stdout = _text(_Stdout(1, "w", closefd=False), sys.stdout, ESCAPED)
    sys.stderr = _text(_Stderr(2, "w", closefd=False), sys.stderr, "backslashreplace")


def write_page(text: str) -> None:
    """Write a document (HTML, SVG, JSON) to stdout: always as UTF-8, which it says that it is."""
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None:  # a stream without bytes, such as a StringIO
        sys.stdout.write(f"{text}\n")
    else:
        sys.stdout.flush()
        raw.write(f"{text}\n".encode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def is_stdout_failure(problem: BaseException) -> bool:
    """Whether an exception says that stdout could not be written."""
    return isinstance(problem, OSError) and problem.filename == STDOUT


def drop_stdout() -> None:
    """Forget what stdout did not take; the interpreter would fail on it once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _text(raw: io.FileIO, before: object, errors: str) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    lines = raw.isatty() or isinstance(raw, _Stderr)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines)


def _escape(problem: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of file names that are not UTF-8 as they are, other characters as `\\u1234`."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    made = b"".join(_escaped(c) for c in problem.object[problem.start : problem.end])
    return made, problem.end


def _escaped(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":
        return character.encode("utf-8", "surrogateescape")
    return character.encode("ascii", "backslashreplace")


class _Stdout(io.FileIO):
    """A descriptor whose failures say that they are stdout's."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError as problem:
            raise BrokenPipeError(problem.errno, "its reader has closed it", STDOUT) from None
        except OSError as problem:
            if problem.errno == errno.EINTR:
                raise
            raise OSError(problem.errno, problem.strerror, STDOUT) from None


class _Stderr(io.FileIO):
    """A descriptor that takes everything, also where nobody reads it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes
