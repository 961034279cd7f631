"""Errors for damaged or missing files of a model, before a library reads them. No torch.

Each function returns or raises a UserError that names the path, what it is, and the fix.
"""

from __future__ import annotations

import codecs
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import UserError

AGAIN = "download the file again"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LFS_POINTER = b"version https://git-lfs"


def file_fault(path: Path) -> UserError | None:
    """Why the file at a path cannot be read; None where it can, or where there is nothing."""
    try:
        entry = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as problem:
        return access_fault(path, problem)
    try:
        status = path.stat()
    except OSError as problem:
        if stat.S_ISLNK(entry.st_mode) and not isinstance(problem, PermissionError):
            return broken_link(path)
        return access_fault(path, problem)
    if stat.S_ISDIR(status.st_mode):
        return UserError(f"{path} is a folder, and a file of that name is needed.", help=AGAIN)
    if not stat.S_ISREG(status.st_mode):
        return UserError(f"{path} is no regular file.", help=AGAIN)
    if not os.access(path, os.R_OK):
        return access_fault(path, PermissionError())
    if status.st_size == 0:
        return UserError(f"{path} is empty.", help=AGAIN)
    return None


def folder_fault(path: Path) -> UserError | None:
    """Why a folder cannot be listed; None where it can, or where there is nothing."""
    try:
        entry = path.lstat()
        if stat.S_ISLNK(entry.st_mode) and not path.exists():
            return broken_link(path)
        if not path.is_dir():
            return UserError(f"{path} is a file, and a folder is needed.", help=AGAIN)
    except FileNotFoundError:
        return None
    except OSError as problem:
        return access_fault(path, problem)
    if not os.access(path, os.R_OK | os.X_OK):
        return access_fault(path, PermissionError())
    return None


def broken_link(path: Path) -> UserError:
    """The error for a symbolic link whose target does not exist."""
    target = path.readlink()
    if target.parent.name == "blobs":  # a snapshot of the hub's cache links to its blobs
        return UserError(
            f"{path} is a broken link: its content, {target}, is not in the hub's cache.",
            help="unset HF_HUB_OFFLINE to download it again; of a cache that was copied, copy the"
            " whole folder `models--...` with its `blobs`, or the snapshot with `cp -rL`",
        )
    return UserError(
        f"{path} is a broken link to {target}.",
        help="copy the folder with the files that its links mean: `cp -rL FROM TO`",
    )


def access_fault(path: Path, problem: OSError) -> UserError:
    """The error for a path that the operating system does not let us read."""
    if not isinstance(problem, PermissionError):
        return UserError(f"{path} cannot be read: {problem.strerror or problem}", help=AGAIN)
    blocked = _unsearchable(path)
    if blocked is not None or path.is_dir():
        folder = blocked or path
        return UserError(
            f"the folder {folder} may not be read: permission denied.",
            help=f"allow reading it: chmod u+rx {folder}",
        )
    return UserError(
        f"{path} may not be read: permission denied.",
        help=f"allow reading it: chmod u+r {path}",
    )


def _unsearchable(path: Path) -> Path | None:
    """The highest folder above a path that may not be searched; none where all may."""
    above = (p for p in reversed(path.parents) if p.is_dir())
    return next((p for p in above if not os.access(p, os.X_OK)), None)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a path into UserErrors that name it."""
    try:
        yield
    except OSError as problem:
        raise file_fault(path) or access_fault(path, problem) from problem


def text_fault(path: Path, head: bytes) -> UserError | None:
    """Why a file that should be UTF-8 text is none, by its first bytes."""
    if head.startswith(codecs.BOM_UTF8):
        return UserError(
            f"{path} begins with a byte-order mark (BOM).", help="save it as UTF-8 without BOM"
        )
    if head.startswith(UTF_16) or head[1:2] == b"\0":
        return UserError(f"{path} is UTF-16 text, not UTF-8.", help="save it as UTF-8 without BOM")
    return download_fault(path, head)


def download_fault(path: Path, head: bytes, what: str = "the file itself") -> UserError | None:
    """Why a download did not bring the file itself, by its first bytes."""
    if head.startswith(LFS_POINTER):
        return UserError(
            f"{path} is a git-lfs pointer, not {what}.",
            help="run `git lfs pull` in its folder",
        )
    if head.lstrip()[:5].lower() in {b"<!doc", b"<html"}:
        return UserError(f"{path} is a web page, not {what}.", help=AGAIN)
    return None


def json_value(path: Path) -> Any:
    """What a JSON file holds; a UserError that names the file and what is wrong with it."""
    if problem := file_fault(path):
        raise problem
    with reading(path):
        content = path.read_bytes()
    if problem := text_fault(path, content[:64]):
        raise problem
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as undecodable:
        place = undecodable.start
        raise UserError(
            f"{path} is not UTF-8 text: byte {place} is {content[place]:#04x}.",
            help=f"{AGAIN}, or save it as UTF-8",
        ) from undecodable
    except RecursionError:
        raise UserError(f"{path} is no valid JSON: it is nested too deep.", help=AGAIN) from None
    except ValueError as invalid:
        raise UserError(
            f"{path} is no valid JSON: {invalid}", help=f"{AGAIN}, or mend it"
        ) from invalid
