"""Output and input files of jobs: their folders, and how they are removed. Imports no torch."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.job import Job

# Names that only a server makes: of the files of jobs, and of files during an atomic write.
JOB_FILE = re.compile(r"([a-z]{2,12}[_-][0-9a-f]{24,40})(?:[._-].*)?")
HALF_WRITTEN = re.compile(r"\.([0-9a-f]+)-[0-9a-f]{8}(?:\.\w+)?")
ABANDONED_SECONDS = 3600.0  # no file takes longer to write


@dataclass(frozen=True)
class Folders:
    """The folders of outputs and of uploaded inputs."""

    outputs: Path
    inputs: Path


def remove_outputs(folders: Folders, job: Job) -> None:
    """Remove the output files of a job, finished or not."""
    for path in folders.outputs.glob(f"{job.id}_*"):
        path.unlink(missing_ok=True)
    remove(folders.outputs, (file.name for file in job.files))


def remove_files(folders: Folders, job: Job) -> None:
    """Remove a job's outputs and inputs."""
    remove_outputs(folders, job)
    remove(folders.inputs, job.inputs)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files by name; never anything outside the folder."""
    for name in names:
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)


def remove_half_written(folders: Folders, pid: int) -> None:
    """Remove the unfinished files of a process that died."""
    for path in folders.outputs.glob(f".{pid:x}-*"):
        if HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


def remove_orphans(folders: Folders, jobs: Collection[Job]) -> list[str]:
    """Remove files that belong to none of the jobs; returns their names.

    Of a job that ended, only the local files that its row names stay: the store has the others.
    """
    unfinished = {job.id for job in jobs if not job.is_over}
    outputs = {file.name for job in jobs for file in job.files if file.url is None}
    inputs = {name for job in jobs for name in job.inputs}
    removed = []
    for folder, known in ((folders.outputs, outputs), (folders.inputs, inputs)):
        for path in folder.iterdir() if folder.is_dir() else ():
            named = JOB_FILE.fullmatch(path.name)
            orphan = named and path.name not in known and named[1] not in unfinished
            if (orphan or _is_abandoned(path)) and path.is_file():
                path.unlink(missing_ok=True)
                removed.append(path.name)
    for path in folders.inputs.glob(".fetch-*"):  # a download that was never finished
        shutil.rmtree(path, ignore_errors=True)
    return removed


def _is_abandoned(path: Path) -> bool:
    """Whether a file was left by a process that died during its atomic write. `sglang generate` may
    share the folder, and in a container another process may have that process id by now."""
    named = HALF_WRITTEN.fullmatch(path.name)
    if not named:
        return False
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            return True
    return Path("/proc/self").exists() and not _is_alive(int(named[1], 16))


def _is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
