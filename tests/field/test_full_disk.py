"""A disk that fills up while the server works: clear errors, and nothing accepted is lost."""

from __future__ import annotations

import io
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.servers import Server, serving, wait_until

IMAGES, EDITS, VIDEOS = "/v1/images/generations", "/v1/images/edits", "/v1/videos"
BODY = {"prompt": "a red circle on a blue background"}
CLIP = BODY | {"num_frames": 5}


class Disk:
    """A small disk of its own, mounted where this user may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
        done = subprocess.run(mount, capture_output=True, check=False)
        self.is_mounted = done.returncode == 0

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.folder / "filler").open("ab", buffering=0) as file:
            for size in (4096, 512, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    made = Disk(tmp_path_factory.mktemp("full") / "disk")
    if not made.is_mounted:
        pytest.skip("this user may not mount a disk; the limit of file sizes is tested below")
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    (disk.folder / "outputs").mkdir()
    words = ("--output-path", str(disk.folder / "outputs"))
    with serving(tmp_path_factory.mktemp("server"), "--graph", "demo_edit", *words) as made:
        yield made


@pytest.fixture
def full(disk: Disk) -> Iterator[Disk]:
    disk.fill()
    yield disk
    disk.free()


def is_full(answer: httpx.Response) -> None:
    assert answer.status_code == 507, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "disk_full")
    assert "disk of the server is full" in error["message"]


def picture(server: Server) -> dict[str, Any]:
    """Multipart fields of an edit: its picture is stored first."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "PNG")
    return {"data": BODY, "files": {"image": ("a.png", data.getvalue())}}


def completed(server: Server, id: str) -> bool:
    status: str = server.get(f"{VIDEOS}/{id}").json()["status"]
    assert status != "failed"
    return status == "completed"


def test_requests_on_a_full_disk_are_507_and_work_when_there_is_space(
    server: Server, full: Disk
) -> None:
    is_full(server.post(EDITS, **picture(server)))
    is_full(
        server.post(VIDEOS, data=CLIP, files={"input_reference": picture(server)["files"]["image"]})
    )
    assert server.get("/health").status_code == 200
    assert server.get(VIDEOS).status_code == 200
    full.free()
    assert server.post(EDITS, **picture(server)).status_code == 200
    assert "Traceback" not in server.log.read_text("utf-8")


def test_an_accepted_clip_survives_a_full_disk(server: Server, disk: Disk) -> None:
    upload = picture(server)["files"]
    slow = CLIP | {"num_inference_steps": 60, "size": "128x128"}
    first, second = (
        server.post(VIDEOS, data=body, files={"input_reference": upload["image"]}).json()["id"]
        for body in (slow, CLIP)
    )
    wait_until(lambda: server.stats()["running"] == 1)
    disk.fill()
    try:
        ended = ("completed", "failed", "in_progress")
        wait_until(lambda: "the disk is full" in server.log.read_text("utf-8"), 60)
        assert server.get(f"{VIDEOS}/{first}").json()["status"] in ended
        assert server.get(f"{VIDEOS}/{second}").json()["status"] == "queued"
    finally:
        disk.free()
    wait_until(lambda: completed(server, second), 60)
    last = server.get(f"{VIDEOS}/{first}").json()
    if last["status"] == "failed":
        assert last["error"]["code"] == "disk_full"
    assert not [*(disk.folder / "outputs").glob(".*-*")], "a partial file"


def test_a_limit_of_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    """What a quota does: the server starts, and then may write no more."""
    with serving(tmp_path) as server:
        assert server.post(IMAGES, BODY).status_code == 200
        used = (server.outputs / "jobs.sqlite3-wal").stat().st_size
        pids = [server.process.pid]
        before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (used // 2, before[1]))
        is_full(server.post(IMAGES, BODY))
        is_full(server.post(VIDEOS, CLIP))
        assert server.get("/liveness").status_code == 200
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        assert server.post(IMAGES, BODY).status_code == 200
