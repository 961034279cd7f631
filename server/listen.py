"""Start the HTTP server for a configured runtime: socket, folders, uvicorn."""

from __future__ import annotations

import asyncio
import errno
import socket
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from runtime import Runtime, Setting, UserError
from runtime.settings.policies import Server
from server.app import make_app
from server.jobs import Jobs
from server.servable import check_servable
from server.served_model import ServedModel
from server.service import Folders, Service
from server.storage_errors import is_disk_full


def run(settings: Sequence[Setting], runtime: Runtime) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain."""
    policy = runtime.config.policies.server
    check_servable(ServedModel.of(runtime, runtime.config.policies))
    listening = bind(policy)
    try:
        return asyncio.run(_serve(settings, runtime, listening))
    finally:
        listening.close()


def bind(policy: Server) -> socket.socket:
    """The listening socket; port 0 picks a free one."""
    family = socket.AF_INET6 if ":" in policy.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off (40 ms per answer) only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((policy.host, policy.port))
        listener.listen(2048)
    except OSError as problem:
        listener.close()
        raise _cannot_listen(policy, problem) from problem
    except OverflowError as problem:
        listener.close()
        raise UserError(f"port {policy.port} does not exist", field="server.port") from problem
    return listener


def _cannot_listen(policy: Server, problem: OSError) -> UserError:
    if problem.errno == errno.EADDRINUSE:
        return UserError(
            f"port {policy.port} on {policy.host} is in use",
            help="give another with --port, or 0 to pick a free one", field="server.port",
        )  # fmt: skip
    if problem.errno == errno.EACCES:
        return UserError(
            f"port {policy.port} needs rights that this user lacks",
            help="give a port above 1023 with --port", field="server.port",
        )  # fmt: skip
    return UserError(
        f"cannot listen on {policy.host}: {problem.strerror or problem}",
        help="give an address of this machine with --host, such as 127.0.0.1 or 0.0.0.0",
        field="server.host",
    )


async def _serve(settings: Sequence[Setting], runtime: Runtime, listening: socket.socket) -> int:
    policies = runtime.config.policies
    folders = make_folders(Path(policies.output.path), policies.server.input_save_path)
    jobs = await Jobs.open(folders.outputs / "jobs.sqlite3")
    service = Service(settings, runtime, jobs, folders)
    await _start(service, folders)
    host, port = listening.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        make_app(service, runtime, policies),
        lifespan="on",
        access_log=policies.server.log_requests,
        log_level=policies.output.log_level,
        timeout_graceful_shutdown=policies.server.http_graceful_shutdown_timeout,
        server_header=False,
    )
    server = JobServer(config, f"listening on http://{address}:{port}", service)
    await server.serve(sockets=[listening])
    return 0 if server.started else 1


async def _start(service: Service, folders: Folders) -> None:
    """Take up the jobs of an earlier process; UserError where their database cannot be used."""
    try:
        await service.start()
    except (sqlite3.Error, OSError) as problem:
        full = is_disk_full(problem)
        reason = "the disk is full" if full else f"{type(problem).__name__}: {problem}"
        raise UserError(
            f"the jobs of an earlier server in {folders.outputs} cannot be taken up: {reason}.",
            help="free some space, or give another folder: `output.path`"
            if full
            else "move jobs.sqlite3 away (finished files stay, waiting jobs are lost), or give "
            "another folder: `output.path`",
            field="output.path",
        ) from problem


def make_folders(outputs: Path, inputs: str | None) -> Folders:
    """Make the output and input folders where they are missing."""
    made = Folders(outputs.expanduser(), Path(inputs or outputs / "inputs").expanduser())
    for folder in (made.outputs, made.inputs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise UserError(
                f"the folder {folder} cannot be made: {problem.strerror}",
                help="give one with --output-path that this user may write", field="output.path",
            ) from problem  # fmt: skip
    return made


class JobServer(uvicorn.Server):
    """A server that prints its address on stderr when it listens, and drains before it stops."""

    def __init__(self, config: uvicorn.Config, announcement: str, service: Service) -> None:
        super().__init__(config)
        self.announcement, self.service = announcement, service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if self.started:
            print(self.announcement, file=sys.stderr, flush=True)  # noqa: T201  # users and tests read it

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more jobs, wait for open requests, then stop the service.

        uvicorn cancels requests that are still open after the graceful time; they answer 503.
        """
        await self.service.begin_drain()
        await super().shutdown(sockets)
