"""A replica: one engine, started, watched, and started again with back-off when it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

from server.engine_connection import EngineConnection
from server.protocol import ENDS

EngineState = Literal["stopped", "starting", "idle", "busy", "restarting", "refused"]
FIRST_RESTART_SECONDS, LAST_RESTART_SECONDS = (
    0.5,
    30.0,
)  # seconds before an engine that died is started again
FIRST_RELOAD_SECONDS, LAST_RELOAD_SECONDS = 30.0, 600.0  # before one that refused to start is
HEALTHY_SECONDS = 60.0  # seconds after which an engine counts as healthy
EXIT_TIMEOUT_SECONDS = 5.0  # seconds for an engine to exit by itself

log = logging.getLogger("sglang.server")


class EngineDied(Exception):
    """The engine died before it ended the job; the message says how."""


class Replica:
    """One engine, replaced by a new process whenever it dies.

    load     the `load` message
    changed  called when the engine becomes idle
    on_message  called with messages that do not belong to the running job
    """

    def __init__(
        self,
        index: int,
        load: Mapping[str, Any],
        changed: Callable[[], None],
        on_message: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.index, self._load, self._changed, self._on_message = index, load, changed, on_message
        self.state: EngineState = "stopped"
        self.reason = ""  # why it is not ready
        self.restarts = 0
        self.ready: Mapping[str, Any] = {}  # the engine's `ready` message
        self._link: EngineConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._reply: asyncio.Future[dict[str, Any]] | None = None
        self._on_step: Callable[[int, int], None] = _ignore
        self._ready_at: float | None = None
        self._failures = self._refusals = 0

    @property
    def pid(self) -> int | None:
        """Process id, while there is a process."""
        return self._link.pid if self._link else None

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self.state in {"idle", "busy"}

    def start(self) -> None:
        """Start the first engine."""
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def stop(self) -> None:
        """Stop for good; a running job ends with EngineDied."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.state, self.reason = "stopped", "the engine is stopped"

    def claim(self) -> EngineConnection:
        """Take an idle engine for one job."""
        assert self.state == "idle"
        assert self._link is not None
        self.state = "busy"
        return self._link

    def release(self, claim: EngineConnection) -> None:
        """Release an engine that was claimed and not used."""
        if claim is self._link and self.state == "busy":
            self.state = "idle"
            self._changed()

    async def run(
        self, claim: EngineConnection, order: Mapping[str, Any], on_step: Callable[[int, int], None]
    ) -> dict[str, Any]:
        """Run a job on a claimed engine; the message that ends it. Raises EngineDied.

        on_step  called with steps done, and steps of the whole job
        """
        if claim is not self._link or self.state != "busy":
            raise EngineDied(self.reason)
        self._reply = asyncio.get_running_loop().create_future()
        self._on_step = on_step
        claim.send(order)
        return await self._reply

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message to the engine; false where none is ready."""
        if self._link is None or not self.is_ready:
            return False
        self._link.send(message)
        return True

    async def _supervise(self) -> None:
        while True:
            self.state, self.reason = "starting", "the engine is loading the model"
            self.reason, refused = await self._run_process()
            if refused:
                self.state, pause = (
                    "refused",
                    min(FIRST_RELOAD_SECONDS * 2**self._refusals, LAST_RELOAD_SECONDS),
                )
                self._refusals += 1
            else:
                self.state, pause = (
                    "restarting",
                    min(FIRST_RESTART_SECONDS * 2**self._failures, LAST_RESTART_SECONDS),
                )
                self._failures += 1
            message = "engine %d: %s; it is started again in %g s"
            log.warning(message, self.index, self.reason, pause)
            await asyncio.sleep(pause)
            self.restarts += 1

    async def _run_process(self) -> tuple[str, bool]:
        """Run one process to its end; why it ended, and whether it refused to start."""
        reason, refused = "", False
        try:
            link = self._link = await EngineConnection.open(f"[engine {self.index}] ")
        except OSError as problem:
            return f"the engine cannot be started: {problem.strerror}", False
        try:
            link.send(self._load)
            async for message in link.messages():
                if "refused" in message:
                    reason, refused = str(message["refused"]), True
                self._handle(message)
        except ValueError as problem:  # not JSON, or too long a line: the engine is broken
            link.kill()
            reason = f"the engine sent an invalid message ({problem})"
        finally:
            link.close()
            exit_reason = await link.ended(EXIT_TIMEOUT_SECONDS)
            reason = reason or exit_reason
            self._forget_process(reason)
        return reason, refused

    def _handle(self, message: dict[str, Any]) -> None:
        if "step" in message:
            self._on_step(int(message["done"]), int(message["of"]))
        elif "ready" in message:
            self.ready = message["ready"]
            self._ready_at = asyncio.get_running_loop().time()
            self._refusals = 0
            self._become_idle()
        elif any(end in message for end in ENDS):
            self._failures = 0
            reply, self._reply, self._on_step = self._reply, None, _ignore
            if reply and not reply.done():
                reply.set_result(message)
            if not message.get("leaving"):
                self._become_idle()
        elif "refused" not in message:
            self._on_message(message)

    def _become_idle(self) -> None:
        self.state, self.reason = "idle", ""
        self._changed()

    def _forget_process(self, reason: str) -> None:
        """Forget a process that ended; its job ends with EngineDied."""
        self._link = None
        self.state, self.reason = "restarting", reason
        if self._ready_at and asyncio.get_running_loop().time() - self._ready_at >= HEALTHY_SECONDS:
            self._failures = 0
        self._ready_at = None
        reply, self._reply, self._on_step = self._reply, None, _ignore
        if reply and not reply.done():
            reply.set_exception(EngineDied(reason))


def _ignore(done: int, of: int) -> None:
    """Ignore steps while no job is claimed."""
