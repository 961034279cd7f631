"""The table of accepted jobs: durable, in SQLite, with an async interface."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from server.database import Database, DatabaseSchema
from server.job import TERMINAL, Job, JobError, JobKind, Status, StoredFile

JOB_COLUMNS = tuple(f.name for f in dataclasses.fields(Job))
JSON_COLUMNS = frozenset({"runs", "encoding", "inputs", "meta", "files", "error"})
IMMUTABLE = frozenset({"id", "kind", "created_at"})
NOT_DURABLE = frozenset({"progress"})  # written often; a job that runs again starts it from 0

# `seq` is the order of insertion among jobs of one second; every index ends with it.
SCHEMA = DatabaseSchema(
    1,
    (
        """CREATE TABLE jobs (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            status TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            started_at INTEGER,
            completed_at INTEGER,
            progress INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            seconds REAL,
            peak_memory_mb REAL,
            runs TEXT NOT NULL,
            encoding TEXT NOT NULL,
            inputs TEXT NOT NULL,
            meta TEXT NOT NULL,
            files TEXT NOT NULL,
            error TEXT NOT NULL
        )""",
        "CREATE INDEX jobs_by_kind ON jobs (kind, created_at)",
        "CREATE INDEX jobs_by_status ON jobs (status, created_at)",
    ),
)
SELECT = f"SELECT {', '.join(JOB_COLUMNS)} FROM jobs"
FINISHED_AT = "coalesce(completed_at, created_at)"


class Jobs:
    """The job table. JSON columns are read back as JSON: tuples inside them become lists."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path) -> Jobs:
        """Open the database at `path`, or make it.

        Raises UserError where another live server uses them, or the file cannot be read.
        """
        return cls(await Database.open(path, SCHEMA))

    async def close(self) -> None:
        """Finish the work in the queue, and release the lock."""
        await self._database.close()

    async def add(self, job: Job) -> None:
        """Insert a new job: it is on the disk on return."""
        marks = ", ".join("?" * len(JOB_COLUMNS))
        insert = f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}) VALUES ({marks})"

        def work(db: sqlite3.Connection) -> None:
            db.execute(insert, [_column_value(name, getattr(job, name)) for name in JOB_COLUMNS])

        await self._database.write(work)

    async def get(self, id: str) -> Job | None:
        """The job, if there is one."""
        return await self._database.read(lambda db: _get(db, id))

    async def page(
        self,
        kind: JobKind,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> tuple[list[Job], bool]:
        """Jobs by time of creation, then insertion, and whether more follow.

        after  id of the last job of the page before; KeyError where it is no job of this kind
        """
        where, values = "kind = ?", [kind]
        sign = "<" if order == "desc" else ">"

        def work(db: sqlite3.Connection) -> list[Job]:
            if after is not None:
                find = "SELECT created_at, seq FROM jobs WHERE id = ? AND kind = ?"
                cursor = db.execute(find, (after, kind)).fetchone()
                if cursor is None:
                    raise KeyError(after)
                return _all(
                    db,
                    f"{where} AND (created_at, seq) {sign} (?, ?) {_by(order)} LIMIT ?",
                    *values, *cursor, limit + 1,
                )  # fmt: skip
            return _all(db, f"{where} {_by(order)} LIMIT ?", *values, limit + 1)

        found = await self._database.read(work)
        return found[:limit], len(found) > limit

    async def queued(self) -> list[Job]:
        """Queued jobs, oldest first."""
        return await self._database.read(lambda db: _all(db, f"status = 'queued' {_by('asc')}"))

    async def change(
        self, id: str, *, only_from: Collection[Status] | None = None, **fields: Any
    ) -> Job | None:
        """Set fields in one transaction; the job as it is then.

        None, and nothing is changed, where the job is gone, its status is not among `only_from`,
        or a status is given and the job's is final: a job ends once. Progress alone is written
        without waiting for the disk.
        """
        unknown = fields.keys() - set(JOB_COLUMNS) | fields.keys() & IMMUTABLE
        if unknown or not fields:
            raise TypeError(f"cannot change {sorted(unknown) or 'nothing'} of a job")
        if fields.get("status", "queued") not in get_args(Status):
            raise ValueError(f"status {fields['status']!r} is none of {get_args(Status)}")

        def work(db: sqlite3.Connection) -> Job | None:
            job = _get(db, id)
            if job is None or (only_from is not None and job.status not in only_from):
                return None
            if job.is_over and "status" in fields:
                return None
            return _set(db, id, fields)

        return await self._database.write(work, durable=not fields.keys() <= NOT_DURABLE)

    async def remove(self, id: str) -> Job | None:
        """Delete a job; returns the job as it was, if there was one."""

        def work(db: sqlite3.Connection) -> Job | None:
            job = _get(db, id)
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
            return job

        return await self._database.write(work)

    async def recover(self, attempts: int) -> list[Job]:
        """Recover the jobs of an earlier process, before any engine starts; returns those changed.

        A video that was running is queued again at its old place, or fails where it was started
        `attempts` times. An image is cancelled: the client that waited for it is gone.
        """
        now = int(time.time())

        def work(db: sqlite3.Connection) -> list[Job]:
            left = _all(
                db,
                "status = 'in_progress' OR (status = 'queued' AND kind = 'image') " + _by("asc"),
            )
            return [_set(db, job.id, _recovered(job, attempts, now)) for job in left]

        return await self._database.write(work)

    async def expired(self, keep: int, hours: float, now: int) -> list[Job]:
        """Jobs that ended more than `hours` ago, or that are not among the `keep` last to end.

        Oldest first. The rows stay: the caller removes the files, then the job.
        """
        ended = f"status IN {tuple(sorted(TERMINAL))}"
        recent = f"SELECT seq FROM jobs WHERE {ended} ORDER BY {FINISHED_AT} DESC, seq DESC LIMIT ?"
        where = (
            f"{ended} AND ({FINISHED_AT} < ? OR seq NOT IN ({recent})) ORDER BY {FINISHED_AT}, seq"
        )
        return await self._database.read(lambda db: _all(db, where, now - hours * 3600, keep))

    async def counts(self) -> Mapping[Status, int]:
        """The number of jobs by status."""
        rows = await self._database.read(
            lambda db: db.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()
        )
        return dict.fromkeys(get_args(Status), 0) | dict(rows)


def _recovered(job: Job, attempts: int, now: int) -> dict[str, Any]:
    if job.kind == "image":
        return {"status": "cancelled", "completed_at": now}
    if job.attempts < attempts:
        return {"status": "queued", "progress": 0, "started_at": None}
    times = "once" if job.attempts == 1 else f"{job.attempts} times"
    why = f"it was started {times}, and the engine or the server died each time"
    return {"status": "failed", "completed_at": now, "error": JobError("engine_died", why)}


def _by(order: str) -> str:
    return f"ORDER BY created_at {order}, seq {order}"


def _get(db: sqlite3.Connection, id: str) -> Job | None:
    return next(iter(_all(db, "id = ?", id)), None)


def _all(db: sqlite3.Connection, where: str, *values: Any) -> list[Job]:
    return [_job(row) for row in db.execute(f"{SELECT} WHERE {where}", values)]


def _set(db: sqlite3.Connection, id: str, fields: Mapping[str, Any]) -> Job:
    """Update fields of an existing job, and read it back."""
    names = ", ".join(f"{name} = ?" for name in fields)
    values = [_column_value(name, value) for name, value in fields.items()]
    db.execute(f"UPDATE jobs SET {names} WHERE id = ?", [*values, id])
    job = _get(db, id)
    assert job is not None
    return job


def _column_value(name: str, value: Any) -> Any:
    """A field's value as its column holds it."""
    if name not in JSON_COLUMNS:
        return value
    # ASCII with escapes: a client may send lone surrogates, which SQLite's UTF-8 text cannot hold.
    return json.dumps(value, default=_to_json)


def _to_json(value: Any) -> Any:
    """A value that `json` cannot encode, as one that it can."""
    if isinstance(value, JobError | StoredFile):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a job cannot hold {value!r}, which is not JSON")


def _job(row: Iterable[Any]) -> Job:
    values = {
        name: json.loads(value) if name in JSON_COLUMNS else value
        for name, value in zip(JOB_COLUMNS, row, strict=True)
    }
    values["runs"], values["inputs"] = tuple(values["runs"]), tuple(values["inputs"])
    values["files"] = tuple(StoredFile(**file) for file in values["files"])
    values["error"] = JobError(**values["error"]) if values["error"] else None
    return Job(**values)
