"""Files that appear whole or not at all. Imports no torch."""

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
def whole(path: Path) -> Iterator[Path]:
    """Give a hidden name beside `path` to write to, and rename it to `path` at the end.

    So the file appears whole or not at all, whenever the process dies. Parent folders are created;
    the hidden file is removed on any exception. Mistakes of the user (permissions, a full disk, too
    long a name) become a UserError that names the path.
    """
    temporary = path.with_name(f".{os.getpid():x}-{secrets.token_hex(4)}{path.suffix}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                path.lstat()  # raises where the name is too long, before anything is encoded
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
    # Some network file systems cannot sync a folder; the file itself is safe by now.
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
