"""The engine: a child process that holds one loaded pipeline and runs one job at a time.

Started by the server as `python -m server.engine_process READ_FD WRITE_FD`. The main thread
runs jobs; a second one reads the pipe, so that a job can be cancelled, and ends the process when
the pipe closes; where there is an object store, a third one retries uploads that failed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from runtime import Runtime, UserError
from runtime.configure.resolve import edit
from server.protocol import encode_line, strip_folders, unpack_settings
from server.servable import required_outputs

DEVICE_LOST = 70  # exit status: only a new process can use the device again


class Pipe:
    """The engine's end of both pipes. Sending is safe from several threads."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        for fd in (read_fd, write_fd):
            os.set_inheritable(fd, False)  # a child process would keep them open
        self._source, self._target = os.fdopen(read_fd, "rb"), os.fdopen(write_fd, "wb")
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; ends the process where the server is gone."""
        try:
            with self._lock:
                self._target.write(encode_line(message))
                self._target.flush()
        except OSError:
            os._exit(0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Messages, until the server closes its end or dies."""
        for text in self._source:
            yield json.loads(text)


class Worker:
    """Reads messages from the pipe and runs jobs."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._orders: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._objects: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()
        self._current: Any = None  # the Attempt; its module imports torch

    def listen(self) -> None:
        """Read until the pipe closes; then end the process, even in the middle of a step."""
        try:
            for message in self._pipe:
                if "cancel" in message:
                    self._cancel(str(message["cancel"]))
                elif "run" in message:
                    self._orders.put(message)
                else:
                    self._objects.put(message)
        finally:
            os._exit(0)

    def _cancel(self, id: str) -> None:
        with self._lock:
            self._cancelled.add(id)
            if self._current and self._current.id == id:
                self._current.cancel()

    def work(self, runtime: Runtime, folder: Path) -> int:
        """Run jobs in the order they come; returns the exit status where it cannot go on."""
        from server.job_attempt import Attempt

        outputs = required_outputs(runtime)
        if "url" in outputs:
            run = threading.Thread(target=self._send_objects, args=(runtime, folder), daemon=True)
            run.start()
        while True:
            attempt = Attempt(runtime, self._orders.get(), outputs, folder)
            with self._lock:
                self._current = attempt
                if attempt.id in self._cancelled:
                    attempt.cancel()
            end = attempt.run(self._pipe.send)
            with self._lock:
                self._current = None
                self._cancelled.discard(attempt.id)
            if attempt.objects and "done" not in end:  # no job will own these objects
                self._objects.put({"discard": attempt.id, "names": attempt.objects})
            self._pipe.send(end | {"leaving": attempt.broken})
            if attempt.broken:
                return DEVICE_LOST

    def _send_objects(self, runtime: Runtime, folder: Path) -> None:
        from runtime.files.image_files import MEDIA_TYPES
        from runtime.files.object_store import UploadFailed, delete_object, upload_file

        store = runtime.config.policies.storage.store()
        while True:
            message = self._objects.get()
            if "discard" in message:
                for name in message["names"]:
                    try:
                        delete_object(store, name)
                    except UploadFailed as problem:
                        log_line(f"the object {name} stays in the store: {problem.reason}")
                continue
            path = folder / message["name"]
            reply = {"name": message["name"]}
            try:
                url = upload_file(store, path, path.name, MEDIA_TYPES[path.suffix.lower()])
                reply |= {"uploaded": message["upload"], "url": url}
            except UploadFailed as problem:
                reply |= {"upload_failed": message["upload"], "message": problem.reason}
            self._pipe.send(reply)


def configured(load: Mapping[str, Any]) -> Runtime:
    """The pipeline of the `load` message; replicas spread over the devices of the machine."""
    from runtime import device as devices

    settings = unpack_settings(load["load"])
    runtime = Runtime.load(settings, allow_unused=True)  # the server has reported unused settings
    places = devices.available()
    places = places[:-1] or places  # the last one is the host, used only where there is no other
    if runtime.config.policies.placement.device == "auto" and len(places) > 1:
        settings.append(edit("placement.device", places[load["replica"] % len(places)]))
        runtime = Runtime.load(settings, allow_unused=True)
    return runtime


def load_components(runtime: Runtime) -> None:
    """Check the graph and load what fits at once; raises UserError where that fails."""
    from runtime.files.object_store import check_store

    required_outputs(runtime)
    policies = runtime.config.policies
    if policies.storage.type != "none":
        check_store(policies.storage.store())
    runtime.engine.preload()


def start_pipeline(pipe: Pipe, load: Mapping[str, Any]) -> Runtime | None:
    """Load the pipeline and send `ready`; or send `refused` and return None."""
    began = time.perf_counter()
    try:
        runtime = configured(load)
        load_components(runtime)
    except Exception as problem:
        if isinstance(problem, UserError):
            log_line(str(problem))
        else:
            traceback.print_exception(problem, file=sys.stderr)
        reason = str(problem) if isinstance(problem, UserError) else _describe(problem)
        pipe.send({"refused": strip_folders(reason)})
        return None
    seconds = round(time.perf_counter() - began, 3)
    pipe.send({"ready": {"device": str(runtime.engine.device), "load_seconds": seconds}})
    return runtime


def _describe(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"


def log_line(text: str) -> None:
    """Write a line to stderr, which the server copies to its log."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # stderr is the log of this process


def main(read_fd: int, write_fd: int) -> int:
    """Be an engine until the pipe closes; returns the exit status."""
    # The server handles signals to the whole process group (Ctrl-C, a service manager): it drains,
    # then closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    pipe = Pipe(read_fd, write_fd)
    load = next(iter(pipe), None)
    if load is None:
        return 0
    worker = Worker(pipe)
    threading.Thread(target=worker.listen, daemon=True).start()
    runtime = start_pipeline(pipe, load)
    return worker.work(runtime, Path(load["outputs"])) if runtime else 0


if __name__ == "__main__":
    code = main(*map(int, sys.argv[1:3]))
    sys.stderr.flush()
    os._exit(code)  # a plain exit would wait for the lock of the thread that reads the pipe
