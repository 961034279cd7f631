"""Paths of output files: checked before anything is loaded; existing files are not replaced.

If a file or another running process has the name, a number is added: `x-1.png`.
`--overwrite` replaces files instead.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from cli.console import Console
from cli.samples import Sample
from runtime import Runtime, UserError
from runtime.files.image_files import check_suffix, default_suffix
from runtime.paths import cache_root

SEVERAL = "SavePictures"  # the node that writes NAME_1, NAME_2, ...
REASONS = {
    errno.ENOSPC: ("is on a full disk", "free some space, or choose another folder"),
    errno.EDQUOT: ("is over its disk quota", "free some space, or choose another folder"),
    errno.EROFS: ("is on a read-only disk", "choose another folder"),
}
_locks: list[TextIO] = []  # locks on the names of this process, held until it ends


def check_places(session: Runtime, samples: Sequence[Sample], outputs: Sequence[str]) -> None:
    """Refuse suffixes, folders and names that cannot work, before anything is loaded."""
    output = session.output
    if not output.path:
        raise UserError(
            "`output.path` is empty",
            help="name a folder, or leave it out for outputs/", field="output.path",
        )  # fmt: skip
    for sample in samples if {"file", "url"} & set(outputs) else ():
        if sample.destination.suffix:
            frames = sample.complete.get("num_frames") or 1
            check_suffix(sample.destination.suffix, frames, sample.complete.get("fps"))
    folder = samples[0].destination.folder
    _check_folder("output.path", folder)
    for path in (p for sample in samples for p in _targets(session, sample, outputs)):
        if path.is_dir():
            raise UserError(
                f"`output.file_name` is {path.name}, and {path} is a folder",
                help="choose another name", field="output.file_name",
            )  # fmt: skip
    if output.perf_dump_path:
        file = Path(output.perf_dump_path).expanduser()
        if file.is_dir():
            raise UserError(
                f"`output.perf_dump_path` is {file}, which is a folder", help="name a file",
                field="output.perf_dump_path",
            )  # fmt: skip
        _check_folder("output.perf_dump_path", file.parent)


def with_free_names(
    session: Runtime, samples: Sequence[Sample], outputs: Sequence[str], console: Console
) -> list[Sample]:
    """The samples under file names that are still free; a note names them."""
    wrong = [sample for sample in samples if outputs == ("frames",) and sample.destination.suffix]
    if wrong and wrong[0].destination.suffix.lower() != ".npy":
        suffix = wrong[0].destination.suffix
        console.note(f"note: raw frames are written as .npy, not as {suffix}", "warning")
    targets = [path for sample in samples for path in _targets(session, sample, outputs)]
    if session.output.overwrite:
        for path in targets:
            if os.path.lexists(path):
                console.note(f"note: {path} is replaced (--overwrite)", "warning")
        return list(samples)
    number, renamed = 0, list(samples)
    while not _take([p for sample in renamed for p in _targets(session, sample, outputs)]):
        number += 1
        renamed = [_renamed(sample, number) for sample in samples]
    if number:
        before, after = (samples[0].destination.name, renamed[0].destination.name)
        console.note(
            f"note: {before} is taken: writing {after} (--overwrite replaces files)", "warning"
        )
    return renamed


def _renamed(sample: Sample, number: int) -> Sample:
    """The sample under a name with a number: `x-1`, or of several samples `x-1_0`, `x-1_1`, ..."""
    name = f"{sample.stem}-{number}{sample.destination.name.removeprefix(sample.stem)}"
    return replace(sample, destination=replace(sample.destination, name=name))


def _targets(session: Runtime, sample: Sample, outputs: Iterable[str]) -> list[Path]:
    """The paths that a sample writes, as far as they are known before it runs."""
    to, found = sample.destination, []
    if {"file", "url"} & set(outputs):
        suffix = to.suffix or default_suffix(sample.complete.get("num_frames") or 1)
        source = session.graph.outputs.get("file")
        node = session.graph.nodes.get(source.node) if source else None
        several = node is not None and node.type.endswith(f".{SEVERAL}")
        found.append(to.folder / f"{to.name}{'_1' * several}{suffix}")
    if "frames" in outputs:
        found.append(to.folder / f"{to.name}.npy")
    return found


def _take(paths: Sequence[Path]) -> bool:
    """Reserve names for this process; returns whether all of them were free."""
    if any(os.path.lexists(path) for path in paths):
        return False
    locks = [_lock(path) for path in paths]
    # A run may have written its file and given up its lock between the two looks.
    if any(lock is None for lock in locks) or any(os.path.lexists(path) for path in paths):
        for lock in locks:
            if lock:
                lock.close()
        return False
    _locks.extend(lock for lock in locks if lock)
    return True


def _lock(path: Path) -> TextIO | None:
    """A lock that the system releases when the process ends; None if another process has it.

    The lock is in the cache, so that nothing is left in the output folder. Without a writable
    cache, or on a system without such locks, only existing files are checked.
    """
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    folder = cache_root() / "names"
    try:
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w")
    except (OSError, RuntimeError, ImportError):
        return Path(os.devnull).open("w")  # a placeholder: locking is not possible here
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # a file system without locks
    return file


def release_names() -> None:
    """Release the names of this process: its files exist now."""
    while _locks:
        lock = _locks.pop()
        with suppress(OSError):
            if lock.name != os.devnull:
                Path(lock.name).unlink()
        lock.close()


def _check_folder(option: str, folder: Path) -> None:
    """Refuse a folder in which a trial file cannot be written."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if place.is_symlink() and not place.exists():
        raise UserError(
            f"`{option}` is {folder}, and {place} is a broken link to {place.readlink()}",
            help="create what it points to, or choose another folder", field=option,
        )  # fmt: skip
    if not place.is_dir():
        raise UserError(
            f"`{option}` is {folder}, and {place} is a file", help="choose another folder",
            field=option,
        )  # fmt: skip
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        reason, fix = REASONS.get(problem.errno or 0, ("is not writable", "choose another folder"))
        raise UserError(
            f"`{option}` is {folder}: {place} {reason}", help=fix, field=option
        ) from None
