"""SQLite in a thread of its own: one connection, one lock per folder, durable transactions.

The module knows nothing of jobs: callers pass a schema, and functions that use the connection.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtime.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class DatabaseSchema:
    """Statements that make an empty database of a version (from 1)."""

    version: int
    statements: tuple[str, ...]


class Database:
    """One open database; coroutines await work that its thread does, in order of the calls."""

    def __init__(
        self, thread: ThreadPoolExecutor, connection: sqlite3.Connection, lock: int
    ) -> None:
        self._thread, self._connection, self._lock = thread, connection, lock
        self._is_open = True

    @classmethod
    async def open(cls, path: Path, schema: DatabaseSchema) -> Database:
        """Open or make the database at `path`, as the only server that uses it; UserError if not.

        The lock lies beside it (`{name}.lock`) and goes with the process, however that dies.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")

        def opened() -> tuple[sqlite3.Connection, int]:
            lock = _lock_folder(path)
            try:
                return _connect(path, schema), lock
            except BaseException:
                os.close(lock)
                raise

        try:
            connection, lock = await asyncio.get_running_loop().run_in_executor(thread, opened)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(thread, connection, lock)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, which only reads."""
        return await self._run(lambda: work(self._connection))

    async def write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Do `work` in one transaction, all of it or nothing; it is on the disk on return.

        durable=False leaves the disk to the next durable write: a process that dies loses nothing,
        a machine that loses power may lose it.
        """
        return await self._run(lambda: _write(self._connection, work, durable))

    async def close(self) -> None:
        """Finish the work in the queue, close the connection, release the lock."""
        if not self._is_open:
            return
        self._is_open = False
        await self._run(self._connection.close)
        self._thread.shutdown()  # all work is done, so this only ends the thread
        os.close(self._lock)

    async def _run(self, work: Callable[[], T]) -> T:
        # Shielded: the work is done also when the coroutine that awaits it is cancelled.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))


def _write(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], durable: bool
) -> T:
    # With a write-ahead log FULL syncs every commit, NORMAL only when the log is folded back.
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    with _transaction(connection):
        return work(connection)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _lock_folder(path: Path) -> int:
    """The descriptor that holds the lock of the database at `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
    except OSError as error:
        with os.fdopen(lock, "rb") as file:
            holder = file.read().decode("ascii", "replace")
        if not isinstance(error, BlockingIOError):
            raise _unusable(path, error.strerror or str(error)) from error
        raise UserError(
            f"another server (process {holder or 'unknown'}) keeps its jobs in {path.parent}.",
            help="stop it, or give this one a folder of its own: --output-path DIR",
            field="output.path",
        ) from None
    return lock


def _connect(path: Path, schema: DatabaseSchema) -> sqlite3.Connection:
    """The connection, of the thread that calls, its schema made and its pages checked."""
    try:
        # Autocommit: transactions are begun and ended here, not by the module's guesses.
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise _unusable(path, str(error)) from error
    try:
        _prepare(connection, path, schema)
    except sqlite3.Error as error:
        connection.close()
        # What the system refuses is an OperationalError; damage is its parent class.
        if isinstance(error, sqlite3.OperationalError):
            raise _unusable(path, str(error)) from error
        raise _damaged(path, str(error)) from error
    except UserError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: DatabaseSchema) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.version:
        raise UserError(
            f"{path} was written by a newer version of sglang "
            f"(its format is {version}, this version knows up to {schema.version}).",
            help="start the newer version, or give this one a folder of its own: --output-path DIR",
            field="output.path",
        )
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _damaged(path, found)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and not version:
        raise _damaged(path, "it holds something else than jobs")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA fullfsync=1")  # macOS: fsync alone leaves data in the disk's cache
    if not version:
        with _transaction(connection):
            for statement in (*schema.statements, f"PRAGMA user_version={schema.version}"):
                connection.execute(statement)


def _unusable(path: Path, why: str) -> UserError:
    return UserError(
        f"jobs cannot be kept in {path.parent}: {why}.",
        help="make the folder writable and some space free, or give another one: --output-path DIR",
        field="output.path",
    )


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a readable database of jobs: {why}.",
        help="move it away (finished files stay, waiting jobs are lost), "
        "or give another folder: --output-path DIR",
        field="output.path",
    )
