"""Errors of a disk that is full: found in a chain of exceptions, answered with 507."""

from __future__ import annotations

import errno
import sqlite3

from runtime.errors import exception_chain

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# SQLite reports a quota or a limit of file sizes as a failed write.
SQLITE_WRITE_ERRORS = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
DISK_FULL = "the disk of the server is full; try again when its operator has freed some space"


def is_disk_full(problem: BaseException) -> bool:
    """Whether an exception, or one that caused it, says that nothing more can be written."""
    return any(
        (isinstance(cause, OSError) and cause.errno in FULL)
        or (
            isinstance(cause, sqlite3.Error)
            and getattr(cause, "sqlite_errorcode", None) in SQLITE_WRITE_ERRORS
        )
        for cause in exception_chain(problem)
    )
