"""One engine process as the event loop sees it: messages both ways, its log, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from server.protocol import line

LONGEST_LINE = 2**20  # bytes of a message from an engine


class Link:
    """A running engine process and the pipes to it. Made by `open`."""

    def __init__(
        self, process: Process, source: asyncio.StreamReader, target: asyncio.WriteTransport
    ) -> None:
        self._process, self._source, self._target = process, source, target
        self._log: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, label: str) -> Link:
        """Start an engine; its log goes to stderr, each line behind `label`. Raises OSError."""
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "server.engine_process", str(to_read), str(from_write),
                pass_fds=(to_read, from_write), env=_environment(),
                stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
            )  # fmt: skip
        except BaseException:
            os.close(to_write)
            os.close(from_read)
            raise
        finally:
            os.close(to_read)
            os.close(from_write)
        loop = asyncio.get_running_loop()
        source = asyncio.StreamReader(limit=LONGEST_LINE)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(source), os.fdopen(from_read, "rb", 0)
        )
        target, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(to_write, "wb", 0)
        )
        link = cls(process, source, target)
        link._log = loop.create_task(link._relay(label))
        return link

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; to a dead engine it is lost."""
        if not self._target.is_closing():
            self._target.write(line(message))

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Messages, until the engine closes its end."""
        while text := await self._source.readline():
            yield json.loads(text)

    def close(self) -> None:
        """Close the pipe: the engine exits."""
        self._target.close()

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self, patience: float) -> str:
        """Wait for the exit, killing after `patience` seconds; how it ended, in words."""
        try:
            async with asyncio.timeout(patience):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        if self._log:
            await asyncio.wait([self._log], timeout=1)  # a process it started may hold its log
            self._log.cancel()
        return ending(code)

    async def _relay(self, label: str) -> None:
        """Pass the engine's output on, a line at a time."""
        assert self._process.stdout is not None
        rest = b""
        while chunk := await self._process.stdout.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            _show(label, lines)
        if rest:
            _show(label, [rest])


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"the engine process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    likely = ", most likely because the machine ran out of memory" * (name == "SIGKILL")
    return f"the engine process was killed by signal {-code} ({name}){likely}"


def _show(label: str, lines: list[bytes]) -> None:
    with suppress(OSError, ValueError):  # a closed stderr must not stop the server
        for text in lines:
            sys.stderr.write(f"{label}{text.decode(errors='replace')}\n")
        sys.stderr.flush()


def _environment() -> dict[str, str]:
    """Ours, with the modules that this process sees: with -P the folder we stand in is no part."""
    places = [entry or str(Path.cwd()) for entry in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
