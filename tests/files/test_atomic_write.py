"""Files appear whole or not at all, whatever happens to the process or the disk."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UserError
from runtime.files.atomic_write import atomic_write
from runtime.files.image_files import read_image, write_image
from runtime.files.video_files import read_video
from tests.support.scenes import hidden, scene

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_exceptions_leave_the_old_file(tmp_path: Path, problem: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert temporary.suffix == ".txt"
            temporary.write_text("new")
            raise problem

    with pytest.raises(problem):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]  # noqa: PTH208  names are compared


def test_a_file_is_replaced_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_image(scene(8, 8), path)
    write_image(scene(9, 9), path)
    assert read_image(path).shape == (9, 9, 3)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_many_writers_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    threads = [
        threading.Thread(target=write_image, args=(scene(40 + i, 40), path)) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_image(path).shape[1:] == (40, 3)
    assert hidden(tmp_path) == []


KILLED = """
import sys
from pathlib import Path
import numpy as np
from runtime.files.image_files import write_frames, write_image
from runtime.files.video_files import write_video
frames = np.random.default_rng(0).integers(0, 256, (6, 160, 160, 3), dtype=np.uint8)
folder = Path(sys.argv[1])
write_image(frames[0], folder / "warm.png")
write_video(frames, folder / "warm.mp4", fps=16)
print("ready", flush=True)
for i in range(10000):
    write_image(frames[i % 6], folder / "picture.png")
    write_video(frames, folder / f"clip{i % 2}.mp4", fps=16)
    write_frames(frames, folder / f"frames{i}.npy")
"""


def start(code: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process that has printed `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_killed_at_a_random_moment(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        with start(KILLED, folder) as process:
            time.sleep(rng.uniform(0, 0.15))
            process.kill()
        for path in folder.glob("[!.]*"):
            if path.suffix == ".npy":
                assert np.load(path).shape == (6, 160, 160, 3)
            elif path.suffix == ".png":
                assert read_image(path).shape == (160, 160, 3)
            else:
                assert read_video(path)[0].shape == (6, 160, 160, 3)


HALFWAY = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without it
from runtime.files.atomic_write import atomic_write
with atomic_write(Path(sys.argv[1]) / "x.bin") as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_halfway(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    with start(HALFWAY, tmp_path) as process:
        process.send_signal(sent)
    assert (tmp_path / "x.bin").read_bytes() == b"old"
    assert len(hidden(tmp_path)) == (0 if sent == signal.SIGINT else 1)


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            write_image(scene(4, 4), path)
        assert caught.value.help
        return caught.value.message

    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    under = tmp_path / "file/x.png"
    assert refused(under) == f"cannot write {under}: a part of its path is a file"
    deep = tmp_path / "file/deep/er/x.png"
    assert refused(deep) == f"cannot write {deep}: a part of its path is a file"
    taken = tmp_path / "folder.png"
    assert refused(taken) == f"cannot write {taken}: a folder has that name"
    long = tmp_path / ("x" * 300 + ".png")
    assert refused(long) == f"cannot write {long}: the name is too long"
    proc = Path("/proc/folder/x.png")
    assert refused(proc) == f"cannot write {proc}: its folder cannot be created"
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the disk is read-only"),
    ],
    ids=errno.errorcode.get,
)
def test_failing_disks_are_named(tmp_path: Path, code: int, reason: str) -> None:
    path = tmp_path / "x.bin"
    with pytest.raises(UserError, match=reason) as caught, atomic_write(path):
        raise OSError(code, os.strerror(code))
    assert caught.value.message == f"cannot write {path}: {reason}"


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from runtime.errors import UserError
from runtime.files.image_files import write_frames, write_image
from runtime.files.video_files import write_video
frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
folder = Path(sys.argv[1])
writers = {
    ".png": lambda path: write_image(frames[0], path),
    ".jpg": lambda path: write_image(frames[0], path),
    ".webp": lambda path: write_image(frames[0], path),
    ".mp4": lambda path: write_video(frames, path, fps=16),
    ".gif": lambda path: write_video(frames, path, fps=16),
    ".npy": lambda path: write_frames(frames, path),
}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for suffix, write in writers.items():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    write(folder / f"good{suffix}")
    size = (folder / f"good{suffix}").stat().st_size
    for limit in (0, 1, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(folder / f"cut{suffix}")
        except UserError as problem:
            assert "larger than the system allows" in problem.message, problem
        else:
            raise SystemExit(f"{suffix} cut to {limit} of {size} bytes passed for whole")
"""


def test_writes_cut_short_are_noticed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], check=True, cwd=ROOT)
    assert {path.stem for path in tmp_path.iterdir()} == {"good"}


def test_other_failures_of_the_system_stay_themselves(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output") as caught, atomic_write(tmp_path / "x.bin"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert caught.value.errno == errno.EIO


DENIED = """
import os, sys
from pathlib import Path
from runtime.errors import UserError
from runtime.files.atomic_write import atomic_write
if os.geteuid() == 0:  # root may write everywhere
    os.seteuid(65534)
try:
    with atomic_write(Path(sys.argv[1]) / "x.png") as temporary:
        temporary.touch()
except UserError as problem:
    assert problem.message == f"cannot write {sys.argv[1]}/x.png: permission denied", problem
else:
    raise SystemExit("written where nothing may be written")
"""


def test_permission_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    subprocess.run([sys.executable, "-c", DENIED, str(tmp_path)], check=True, cwd=ROOT)
