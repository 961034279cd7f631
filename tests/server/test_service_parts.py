"""What the service is made of, without processes: settings on the pipe, messages, files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch

from runtime import NodeFailed, Raw, Setting, UserError
from runtime.errors import Position
from server.engine_connection import ending
from server.job import Job, StoredFile
from server.job_attempt import failure
from server.job_files import Folders, remove, remove_orphans
from server.protocol import pack_settings, strip_folders, unpack_settings

NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes."
VALUES = [Raw("1.5"), "text", 3, None, True, [Raw("a"), 2], {"map": Raw("b"), "raw": [1]}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_settings_survive_the_pipe(value: object) -> None:
    setting = Setting(("a", "b"), value, "--a-b", Position("f.yaml", 3, 4))
    (back,) = unpack_settings(json.loads(json.dumps(pack_settings([setting]))))
    assert back == setting
    assert type(back.value) is type(value)


def test_the_api_key_is_not_sent_to_engines() -> None:
    place = Position("command line")
    key = Setting(("server", "api_key"), Raw("secret"), "--api-key", place)
    assert pack_settings([key]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read /srv/models/vae/x.bin: gone", "cannot read x.bin: gone"),
        ("'/srv/a b'", "'a b'"),
        ("~/models/x", "x"),
        ("open('/srv/x/')", "open('x/')"),
        ("see https://host/a/b and a/b", "see https://host/a/b and a/b"),
        ("1 / 2, 3/4, /", "1 / 2, 3/4, /"),
    ],
)
def test_messages_show_no_folders(text: str, shown: str) -> None:
    assert strip_folders(text) == shown


def test_an_end_in_words() -> None:
    assert ending(3) == "the engine process ended with exit code 3"
    assert ending(-11) == "the engine process was killed by signal 11 (SIGSEGV)"
    assert "SIGKILL), most likely because the machine ran out of memory" in ending(-9)


def failed(problem: Exception, cause: BaseException | None = None) -> dict[str, str]:
    problem.__cause__ = cause
    told = failure("img_1", problem)
    assert told.pop("failed") == "img_1"
    return told


def node_failed() -> NodeFailed:
    return NodeFailed("decode", "vae.Decode", "/srv/graphs/a.yaml:3:4", ["x: 1"], "cause")


def test_failures_have_codes_and_show_no_folders(capfd: pytest.CaptureFixture[str]) -> None:
    mistake = failed(UserError("no such size", help="ask for another"))
    assert mistake["code"] == "invalid_request"
    assert mistake["message"] == "no such size; ask for another"
    assert capfd.readouterr().err == ""
    full = failed(UserError("cannot write /srv/out/a.png: the disk is full"), OSError(28, "full"))
    assert full["code"] == "disk_full"
    assert "the disk of the server is full" in full["message"]
    capfd.readouterr()
    for cause in (torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError(NO_MEMORY)):
        assert failed(node_failed(), cause)["code"] == "out_of_memory"
    lost = failed(node_failed(), ValueError("/srv/models/x is odd"))
    assert lost["code"] == "generation_failed"
    said, _, log = lost["message"].partition(" (failure ")
    assert said == "node `decode` failed: ValueError: x is odd"
    assert f"failure {log[:8]} of job img_1" in capfd.readouterr().err
    assert len(failed(ValueError("x" * 5000))["message"]) < 600


def test_a_start_sweeps_what_belongs_to_no_job(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "out", tmp_path / "in")
    done, running, gone = (f"video_{digit * 32}" for digit in "abc")
    files = (StoredFile(f"{done}_0.mp4", "video/mp4", 1), StoredFile("x", "y", 1, url="https://z"))
    jobs = [
        Job(done, "video", (), 1, inputs=(f"{done}_0.png",), status="completed", files=files),
        Job(running, "video", (), 2, status="queued"),
    ]
    kept = {
        "out": [f"{done}_0.mp4", f"{running}_0.mp4", "a_red_circle_20260101_0123abcd.png",
                "jobs.sqlite3", f".{os.getpid():x}-01234567.png"],
        "in": [f"{done}_0.png", f"{running}_0.png", "mine.png"],
    }  # fmt: skip
    swept = {
        "out": [f"{done}_1.mp4", f"{gone}_0.mp4", ".7fffffff-01234567.mp4"],
        "in": [f"{gone}_0.png", f"{done}_1.png"],
    }
    for folder in ("out", "in"):
        (tmp_path / folder).mkdir()
        for name in kept[folder] + swept[folder]:
            (tmp_path / folder / name).touch()
    old = tmp_path / "out" / ".1-89abcdef.mp4"  # process 1 is alive, and this is not its file
    old.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    (tmp_path / "in/.fetch-x").mkdir()
    removed = remove_orphans(folders, jobs)
    assert sorted(removed) == sorted([*swept["out"], *swept["in"], old.name])
    for folder in ("out", "in"):
        assert {p.name for p in (tmp_path / folder).iterdir()} == set(kept[folder])


def test_nothing_outside_the_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "precious").touch()
    remove(tmp_path / "inputs", ["../precious", str(tmp_path / "precious"), "missing"])
    assert (tmp_path / "precious").exists()
