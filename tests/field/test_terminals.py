"""Terminals and pipes: locales, closed and broken streams, folders, names, signals (issue 10)."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.main import main

SMALL = ["--num-inference-steps", "1", "--height", "64", "--width", "64", "--log-level", "warning"]
GENERATE = ["-m", "cli.main", "generate", *SMALL]
Capture = pytest.CaptureFixture[str]
Done = subprocess.CompletedProcess[bytes]


def shell(folder: Path, tail: str, *words: str, **environment: str) -> Done:
    """Run Python with words and what a shell writes behind them: `>&-`, `2>/dev/full`, `| head`."""
    return subprocess.run(
        ["/bin/bash", "-c", f'"$0" "$@" {tail}', sys.executable, *words],
        check=False, capture_output=True, cwd=folder, env=os.environ | environment, timeout=100,
    )  # fmt: skip


def picture(folder: Path, name: str) -> bool:
    with Image.open(folder / "outputs" / name) as image:
        return image.size == (64, 64)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"outputs/\\u043a\\u0440\\u0443\\u0433.png\n"),
        ("latin-1", b"outputs/\\u043a\\u0440\\u0443\\u0433.png\n"),
        ("utf-8", "outputs/круг.png\n".encode()),
    ],
)
def test_a_path_in_any_locale(tmp_path: Path, encoding: str, shown: bytes) -> None:
    words = [*GENERATE, "--prompt", "красный круг", "--output-file-name", "круг.png"]
    done = shell(tmp_path, "", *words, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, shown)
    assert picture(tmp_path, "круг.png")


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "cli.main", "inspect", "outputs/x.png"],
        ["-m", "cli.main", "graphs"],
        ["-m", "cli.main", "generate", "--help-all"],
        ["-m", "cli.main", "serve", "--help"],
        ["-m", "runtime.visualize", "demo"],
        ["-m", "runtime.visualize", "demo", "--stage", "plan"],
    ],
    ids=" ".join,
)
def test_every_command_in_an_ascii_locale(tmp_path: Path, words: list[str]) -> None:
    if words[2] == "inspect":
        words_before = [*GENERATE, "--prompt", "круг", "--output-file-name", "x.png"]
        assert shell(tmp_path, "", *words_before).returncode == 0
    done = shell(tmp_path, "", *words, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


@pytest.mark.parametrize("format", ["svg", "html", "mermaid", "json", "dot"])
def test_pages_are_utf_8_in_any_locale(tmp_path: Path, format: str) -> None:
    words = ["-m", "runtime.visualize", "demo", "--format", format]
    done = shell(tmp_path, "", *words, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == shell(tmp_path, "", *words).stdout
    assert done.stdout.decode("utf-8")


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        ("2>/dev/full", 0),
        ("2> >(head -c 1 >/dev/null)", 0),
        (">/dev/full", 1),
        ("> >(true)", 1),
    ],
)
def test_streams_never_lose_a_picture(tmp_path: Path, tail: str, code: int) -> None:
    words = ["-m", "cli.main", "generate", *SMALL[:-2], "--prompt", "x"]
    words += ["--num-samples", "2", "--output-file-name", "x.png"]
    done = shell(tmp_path, f"{tail}; code=$?; sleep 0.1; exit $code", *words)
    assert picture(tmp_path, "x_0.png")
    assert picture(tmp_path, "x_1.png")
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if tail == "> >(true)":
        assert done.returncode in (0, 1)  # whether the reader was gone in time
    else:
        assert done.returncode == code
    if tail == ">/dev/full":
        said = "sglang generate: error: cannot print outputs/x_0.png: no space left on device"
        assert said in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate", "--help"], "sglang generate: error: standard output cannot be written: no"),
        (["graphs"], "sglang graphs: error: standard output cannot be written: no space left"),
        (["--help"], "sglang: error: standard output cannot be written: no space left on device"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_full_disk_behind_stdout(tmp_path: Path, words: list[str], says: str) -> None:
    done = shell(tmp_path, ">/dev/full", "-m", "cli.main", *words)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(says)


def test_visualize_and_a_reader_that_has_enough(tmp_path: Path) -> None:
    done = shell(tmp_path, "| head -1", "-m", "runtime.visualize", "demo", "--format", "html")
    assert (done.returncode, done.stderr) == (0, b"")
    done = shell(tmp_path, ">/dev/full", "-m", "runtime.visualize", "demo")
    assert done.returncode == 1
    assert done.stderr == b"standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--prompt", "--prompt expects text in UTF-8, got "),
        ("--negative-prompt", "--negative-prompt expects text in UTF-8, got "),
        ("--output-file-name", "--output-file-name expects text in UTF-8, got "),
    ],
)
def test_bytes_that_are_not_utf_8(option: str, says: str, capsys: Capture) -> None:
    assert main(["generate", "--prompt", "x", "--dry-run", option, "caf\udce9"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "UTF-8\n" in said


def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = os.fsdecode(b"out\xe9")
    words = [*GENERATE, "--prompt", "x", "--output-path", folder, "--output-file-name", "x.png"]
    done = shell(tmp_path, "", *words)
    assert (done.returncode, done.stdout) == (0, b"out\xe9/x.png\n")
    assert (tmp_path / folder / "x.png").is_file()


def test_no_home(tmp_path: Path) -> None:
    """A container's user may have neither $HOME nor an entry in the table of users."""
    code = (
        "import os, sys; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None);"
        "os.environ.pop('SGLANG_DIFFUSION_CACHE_ROOT', None);"
        "import pwd; pwd.getpwuid = lambda uid: {}[uid];"
        "from cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = shell(tmp_path, "", "-c", code, "generate", "--prompt", "x", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert b"plan of graph `demo`" in done.stdout


# --- folders and names


def refused(capsys: Capture, *words: str) -> str:
    assert main(["generate", *SMALL, "--prompt", "x", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_folders_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dangling").symlink_to("nowhere/d")
    Path("file").write_text("x")
    said = refused(capsys, "--output-path", "dangling")
    assert "`--output-path` is dangling, and dangling is a broken link to nowhere/d\n" in said
    assert "dangling is a broken link" in refused(capsys, "--output-path", "dangling/below")
    assert "file is a file" in refused(capsys, "--output-path", "file/below")
    assert "/proc is not writable" in refused(capsys, "--output-path", "/proc/x")
    assert "dangling is a broken link" in refused(capsys, "--perf-dump-path", "dangling/p.json")
    assert sorted(path.name for path in Path().iterdir()) == ["dangling", "file"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "is on a full disk\nhelp: free some space, or choose another folder"),
        (errno.EROFS, "is on a read-only disk\nhelp: choose another folder"),
        (errno.EDQUOT, "is over its disk quota\nhelp: free some space"),
    ],
)
def test_disks_that_take_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, number: int, says: str
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    assert says in refused(capsys, "--output-path", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_a_folder(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.png").mkdir()
    words = ["--output-path", str(tmp_path), "--output-file-name", "a.png"]
    assert f"`--output-file-name` is a.png, and {tmp_path}/a.png is a folder\n" in (
        refused(capsys, *words)
    )
    assert "is a folder" in refused(capsys, *words, "--overwrite")
    assert "`--perf-dump-path` is " in refused(capsys, "--perf-dump-path", str(tmp_path))


def drawn(capsys: Capture, folder: Path, *words: str) -> tuple[list[str], str]:
    """The names that a call wrote, and its notes."""
    assert main(["generate", *SMALL, "--prompt", "x", "--output-path", str(folder), *words]) == 0
    said = capsys.readouterr()
    return [Path(line).name for line in said.out.splitlines()], said.err


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path, capsys: Capture) -> None:
    words = ["--output-file-name", "a.png"]
    (tmp_path / "a.png").write_text("precious")
    (tmp_path / "a.png").chmod(0o444)
    names, said = drawn(capsys, tmp_path, *words)
    assert names == ["a-1.png"]
    assert "note: a is taken: writing a-1 (--overwrite replaces files)\n" in said
    assert (tmp_path / "a.png").read_text() == "precious"
    assert drawn(capsys, tmp_path, *words)[0] == ["a-2.png"]
    names, said = drawn(capsys, tmp_path, *words, "--overwrite")
    assert names == ["a.png"]
    assert f"note: {tmp_path}/a.png is replaced (--overwrite)\n" in said
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (64, 64)


def test_samples_stay_together(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a_1.png").write_text("precious")
    (tmp_path / "a-1_0.png").symlink_to("nowhere")
    words = ["--output-file-name", "a.png", "--num-samples", "2"]
    assert drawn(capsys, tmp_path, *words)[0] == ["a-2_0.png", "a-2_1.png"]
    assert (tmp_path / "a-1_0.png").is_symlink()


def test_frames_are_not_overwritten_and_have_a_suffix(tmp_path: Path, capsys: Capture) -> None:
    words = ["--return-frames", "--output-file-name", "a.png"]
    names, said = drawn(capsys, tmp_path, *words)
    assert names == ["a.npy"]
    assert "note: raw frames are written as .npy, not as .png\n" in said
    assert drawn(capsys, tmp_path, *words)[0] == ["a-1.npy"]


def test_two_runs_at_once_keep_both(tmp_path: Path) -> None:
    words = [sys.executable, *GENERATE, "--prompt", "x", "--output-file-name", "a.png"]
    runs = [
        subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    names = sorted(run.communicate(timeout=200)[0].decode() for run in runs)
    assert names == ["outputs/a-1.png\n", "outputs/a-2.png\n", "outputs/a.png\n"]
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [
        "a-1.png",
        "a-2.png",
        "a.png",
    ]


# --- signals

AT = """
import os, signal, sys
at, number = sys.argv[1], int(sys.argv[2])
if at == "import":
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "runtime.api":
                os.kill(os.getpid(), number)
    sys.meta_path.insert(0, Finder())
elif at == "encode":
    import runtime.files.atomic_write as module
    module._sync = lambda path: os.kill(os.getpid(), number)
from cli.main import script
sys.argv[1:] = sys.argv[3:]
script()
"""


@pytest.mark.parametrize("at", ["import", "encode"])
@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")],
)
def test_signals_leave_nothing(
    tmp_path: Path, at: str, number: signal.Signals, code: int, says: bytes
) -> None:
    words = ["generate", *SMALL, "--prompt", "x", "--output-file-name", "x.png"]
    done = shell(tmp_path, "", "-c", AT, at, str(int(number)), *words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.endswith(b"sglang generate: " + says + b"\n")
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.png"))
    assert not list(tmp_path.rglob(".*"))
