"""One attempt at a job in the engine process: its runs in order, each written to a file."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from runtime import Cancelled, Destination, File, NodeFailed, NotFinite, Run, Runtime, UserError
from runtime import device as devices
from runtime.api import together
from runtime.events import Noted, Planned, Stepped
from runtime.files.image_files import MEDIA_TYPES
from runtime.files.object_store import UploadFailed
from server.parameter_names import as_parameters, message_of
from server.previews import frame_size
from server.protocol import strip_folders
from server.storage_errors import DISK_FULL, is_disk_full

LONGEST_MESSAGE = 500  # characters
Send = Callable[[Mapping[str, Any]], None]


class Attempt:
    """A job in progress. `cancel` may be called from another thread.

    order    the `run` message
    outputs  names of the graph's outputs: `file`, and `url` where there is an object store
    """

    def __init__(
        self, runtime: Runtime, order: Mapping[str, Any], outputs: Sequence[str], folder: Path
    ) -> None:
        self.id = str(order["run"])
        self._runtime, self._order, self._outputs, self._folder = runtime, order, outputs, folder
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._stopped = False
        self._files: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self.broken = False  # only a new process can use the device again

    def cancel(self) -> None:
        """Stop after the current step."""
        with self._lock:
            self._stopped = True
            for run in self._runs:
                run.cancel()

    @property
    def objects(self) -> list[str]:
        """Names of the objects that it has uploaded."""
        return [file["name"] for file in self._files if file.get("url")]

    def run(self, send: Send) -> dict[str, Any]:
        """Run all runs, sending each step; returns the message that ends the job."""
        began = time.perf_counter()
        devices.reset_peak(self._runtime.engine.device)
        peak = 0.0
        try:
            names = self._order["names"]
            size = self._runtime.batch_size(len(names))
            for start in range(0, len(names), size):
                files, used = self._batch(start, names[start : start + size], send)
                self._files += files
                peak = max(peak, used)
        except Cancelled:
            return {"cancelled": self.id}
        except Exception as problem:
            self.broken = isinstance(_cause(problem), torch.AcceleratorError)
            return failure(self.id, problem)
        seconds = round(time.perf_counter() - began, 3)
        return {
            "done": self.id,
            "files": self._files,
            "seconds": seconds,
            "peak_memory_mb": peak or None,
            "warnings": [as_parameters(strip_folders(text)) for text in dict.fromkeys(self._notes)],
        }

    def _batch(
        self, start: int, names: Sequence[str], send: Send
    ) -> tuple[list[dict[str, Any]], float]:
        """Runs that share calls of networks: their files, and the peak of memory in MB.

        start  the number of the first among all runs of the job
        """
        encoding = dict(self._order["encoding"])
        upload = encoding.pop("upload", True)
        runs = [
            self._runtime.start(
                outputs=[o for o in self._outputs if upload or o != "url"],
                destination=Destination(folder=self._folder, name=name, **encoding),
                **self._order["runs"][start + i],
            )
            for i, name in enumerate(names)
        ]
        with self._lock:
            self._runs = runs
            if self._stopped:
                raise Cancelled
        of = done = 0
        for _, event in together(runs, batch=len(runs)):
            if isinstance(event, Planned):
                of = max(of, event.steps)
            elif isinstance(event, Noted):
                self._notes.append(event.text)
            elif isinstance(event, Stepped):
                done += 1
                of = max(of, event.count, -(-done // len(runs)))
                total = len(self._order["runs"])
                send({"step": self.id, "done": start * of + done, "of": total * of})
        ended = [self._ended(run, name) for run, name in zip(runs, names, strict=True)]
        return [file for files, _ in ended for file in files], max(peak for _, peak in ended)

    def _ended(self, run: Run, name: str) -> tuple[list[dict[str, Any]], float]:
        """The files of a run that is over, and the peak of memory in MB; raises what ended it."""
        try:
            result = run.result
        except UploadFailed as problem:
            if problem.path is None:
                raise
            # The local file exists and only its upload failed, so the job has succeeded.
            return [
                not_uploaded(path, problem.reason) for path in siblings(problem.path, name)
            ], 0.0
        outputs, after = result.outputs, result.memory["after"]
        peak = after["peak_allocated_mb"] or after["peak_host_anon_mb"]
        files = as_tuple(outputs["file"])
        urls = (
            [u.url for u in as_tuple(outputs["url"])] if "url" in outputs else [None] * len(files)
        )
        return [_file_message(f) | {"url": u} for f, u in zip(files, urls, strict=True)], peak


def as_tuple(made: Any) -> tuple[Any, ...]:
    """An output as a tuple: a run may make one file, or several."""
    return made if isinstance(made, tuple) else (made,)


def siblings(path: Path, name: str) -> list[Path]:
    """All files of a run, found by one of them: NAME where it is the only one, else NAME_1, ..."""
    return [path] if path.stem == name else sorted(path.parent.glob(f"{name}_*{path.suffix}"))


def _file_message(file: File) -> dict[str, Any]:
    sides = dict(zip(("width", "height"), frame_size(file.path) or (), strict=False))
    return {"name": file.path.name, "media_type": file.media_type, "size": file.size, **sides}


def not_uploaded(path: Path, reason: str) -> dict[str, Any]:
    """The message of a file whose upload failed."""
    media_type = MEDIA_TYPES[path.suffix.lower()]
    return _file_message(File(path, media_type, path.stat().st_size)) | {"upload": reason}


def failure(id: str, problem: Exception) -> dict[str, Any]:
    """The message of a failed job. Details that a client must not see go to the log."""
    ours = isinstance(problem.__cause__, OSError)  # a full disk is not the client's mistake
    if isinstance(problem, UserError) and not ours:
        return _failure_message(id, "invalid_request", message_of(problem))
    log = secrets.token_hex(4)
    print(f"failure {log} of job {id}:", file=sys.stderr)  # noqa: T201  # stderr is its log
    traceback.print_exception(problem, file=sys.stderr)
    cause = _cause(problem)
    if _out_of_memory(cause):
        return _failure_message(
            id, "out_of_memory",
            "there is not enough memory for this request: ask for a smaller size or fewer frames "
            f"(failure {log} in the server's log)",
        )  # fmt: skip
    if is_disk_full(problem):
        return _failure_message(id, "disk_full", DISK_FULL)
    where = f"node `{problem.node}` failed: " if isinstance(problem, NodeFailed) else ""
    reason = traceback.format_exception_only(cause)[-1].strip()
    code = "not_finite" if isinstance(cause, NotFinite) else "generation_failed"
    return _failure_message(id, code, f"{where}{reason} (failure {log} in the server's log)")


def _failure_message(id: str, code: str, message: str) -> dict[str, Any]:
    short = strip_folders(message)
    if len(short) > LONGEST_MESSAGE:
        short = f"{short[: LONGEST_MESSAGE // 2]} ... {short[-LONGEST_MESSAGE // 2 :]}"
    return {"failed": id, "code": code, "message": short}


def _cause(problem: BaseException) -> BaseException:
    return problem.__cause__ or problem if isinstance(problem, NodeFailed) else problem


def _out_of_memory(cause: BaseException) -> bool:
    # The host's allocator of torch raises a plain RuntimeError.
    return isinstance(cause, torch.OutOfMemoryError | MemoryError) or (
        isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause)
    )
