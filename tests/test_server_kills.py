"""Kills of the engine, the server and both under load; `python -m bench.kills` runs many more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.kills import KINDS, rounds


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_no_accepted_job_is_lost_or_done_twice(tmp_path: Path) -> None:
    report = rounds(tmp_path, KINDS, seed=7, early=0)
    assert report.is_clean, report.table()
    assert report.kills == dict.fromkeys(KINDS, 1)
    assert report.accepted > 3
    assert max(report.attempts) > 1, "no kill met a job that ran"
