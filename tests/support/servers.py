"""A real server in a process of its own, on a loopback port, with the demo model made small."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("request.height=64", "request.width=64", "request.num_inference_steps=1")
START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A server that is ready: its URL, its output folder, its log, and its process."""

    url: str
    outputs: Path
    log: Path
    process: subprocess.Popen[bytes]

    def client(self, key: str = "none") -> openai.OpenAI:
        """OpenAI's SDK, unmodified."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)

    def post(self, path: str, body: Any = None, **said: Any) -> httpx.Response:
        """A POST of a JSON body, or of what httpx takes."""
        given = said if body is None else {"json": body, **said}
        return httpx.post(self.url + path, timeout=60, **given)

    def get(self, path: str, **said: Any) -> httpx.Response:
        """A GET."""
        return httpx.get(self.url + path, timeout=60, **said)

    def stats(self) -> dict[str, Any]:
        """What `/stats` says."""
        made: dict[str, Any] = self.get("/stats").json()
        return made


@contextmanager
def serving(folder: Path, *words: str, ready: bool = True) -> Iterator[Server]:
    """A server with the command line's words; stopped with SIGTERM at the end."""
    log, outputs = folder / "server.log", folder / "outputs"
    command = [sys.executable, "-m", "cli.main", "serve", "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--output-path", str(outputs), *SMALL, *words],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        server = Server(_listening(process, log), outputs, log, process)
        if ready:
            wait_until(lambda: server.get("/health_generate").status_code == 200, START_SECONDS)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    """The URL that the server announces."""
    found: list[str] = []

    def announced() -> bool:
        text = log.read_text("utf-8")
        if process.poll() is not None:
            pytest.fail(f"the server stopped:\n{text}")
        found.extend(re.findall(r"listening on (http://\S+)", text))
        return bool(found)

    wait_until(announced, START_SECONDS)
    return found[0]


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"it did not happen within {seconds:g} s")
        time.sleep(0.05)
