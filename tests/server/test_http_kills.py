"""Kills of the engine, the server and both under load; `python -m bench.kills` runs many more."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bench.kills import KINDS, WITNESS, Report, judge, rounds


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_no_accepted_job_is_lost_or_done_twice(tmp_path: Path) -> None:
    report = rounds(tmp_path, KINDS, seed=7, early=0)
    assert report.is_clean, report.table()
    assert report.kills == dict.fromkeys(KINDS, 1)
    assert report.accepted > 3
    assert max(report.attempts) > 1, "no kill met a job that ran"


def test_the_judge_sees_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    for name in ("once_0.mp4", "stray_0.mp4", ".1a2b-half.mp4", "inputs/stray.png"):
        (tmp_path / name).write_bytes(b"no clip")
    files = json.dumps([{"name": "once_0.mp4"}])
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as database:
        database.execute("CREATE TABLE jobs (id, status, attempts, completed_at, files, runs)")
        database.executescript(WITNESS)
        for id, attempts in (("once", 1), ("failed", 50)):
            row = (id, "queued", attempts, 0, files, "[{}]")
            database.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)", row)
        for id, status in (("once", "completed"), ("once", "completed"), ("failed", "failed")):
            database.execute("UPDATE jobs SET status = ? WHERE id = ?", (status, id))
        database.commit()
    report = Report()
    judge(tmp_path, {"once": 1, "gone": 1}, report)
    assert not report.is_clean
    assert report.lost == ["gone: no row"]
    assert report.doubled == ["once was completed 2 times"]
    strays = [".1a2b-half.mp4", "stray_0.mp4", "inputs/stray.png"]
    assert report.orphans == [f"orphan {name}" for name in strays]
    begun, undecodable, failed = report.wrong
    assert begun == "once was begun 0 times and counts 1 attempts"
    assert undecodable.startswith("once_0.mp4: cannot be decoded")
    assert failed == "failed is failed after 50 attempts"
    assert report.unanswered_kept == 1
