"""Atomic writes: a file appears complete or not at all. Imports no torch."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import UserError

MISTAKES: Mapping[int, tuple[str, str]] = {
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("not permitted", "choose a folder that you may write to"),
    errno.EROFS: ("the disk is read-only", "choose a folder on another disk"),
    errno.ENOENT: ("its folder cannot be created", "choose another folder"),
    errno.ENOTDIR: ("a part of its path is a file", "choose another folder"),
    errno.EEXIST: ("a part of its path is a file", "choose another folder"),
    errno.EISDIR: ("a folder has that name", "choose another file name"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter file name"),
    errno.ENOSPC: ("the disk is full", "free some space, or choose a folder on another disk"),
    errno.EFBIG: ("it would be larger than the system allows", "choose a folder on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose another folder"),
}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a hidden temporary file beside `path`, and rename it to `path` at the end.

    `path` therefore holds either its old content or all of the new one, even if the process is
    killed. Parent folders are created, and the temporary file is removed after any exception.
    Errors that the user can fix (permissions, a full disk, a name that is too long) become a
    UserError that names the path.
    """
    temporary = path.with_name(f".{os.getpid():x}-{secrets.token_hex(4)}{path.suffix}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                path.lstat()  # fails before encoding if the name is too long
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as problem:
        reason, fix = MISTAKES.get(problem.errno or 0, ("", ""))
        if not reason:
            raise
        raise UserError(f"cannot write {path}: {reason}", help=fix) from problem
    # Some network file systems cannot sync a folder; the file itself is already on disk.
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
