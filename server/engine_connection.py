"""The connection of the event loop to one engine process: messages, log and exit."""

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

from server.protocol import encode_line

LONGEST_LINE = 2**20  # bytes of a message from an engine


class EngineConnection:
    """A running engine process and the pipes to it. Made by `open`."""

    def __init__(
        self, process: Process, source: asyncio.StreamReader, target: asyncio.WriteTransport
    ) -> None:
        self._process, self._source, self._target = process, source, target
        self._log: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, label: str) -> EngineConnection:
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
        """Send a message; it is dropped where the engine is dead."""
        if not self._target.is_closing():
            self._target.write(encode_line(message))

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Messages, until the engine closes the pipe."""
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
        """Wait for the exit, and kill after `patience` seconds; returns how the process ended."""
        try:
            async with asyncio.timeout(patience):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        if self._log:
            await asyncio.wait([self._log], timeout=1)  # a child may keep it open
            self._log.cancel()
        return ending(code)

    async def _relay(self, label: str) -> None:
        """Copy the engine's output to our stderr, line by line."""
        assert self._process.stdout is not None
        rest = b""
        while chunk := await self._process.stdout.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            _show(label, lines)
        if rest:
            _show(label, [rest])


def ending(code: int) -> str:
    """How a process ended, as a sentence."""
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
    """Our environment, with our `sys.path`: option -P leaves the working directory out."""
    places = [entry or str(Path.cwd()) for entry in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
