"""Progress and the perf dump, from events and results."""

import io
import json
from pathlib import Path

import pytest

from cli import perf_dump
from cli.progress import Progress, clock_text, is_logged
from runtime import Result
from runtime.events import Event, Loaded, Loading, NodeDone, NodeStarted, Planned, Stepped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


EVENTS: list[Event] = [
    Planned(nodes=3, steps=20),
    Loading(component="transformer", nbytes=11_500_000),
    Loaded(component="transformer", nbytes=11_500_000, seconds=0.1),
    NodeStarted(node="denoise", type="denoise.Denoise"),
    *(Stepped(node="denoise", index=i, count=20, seconds=0.5) for i in range(1, 21)),
    NodeDone(node="denoise", type="denoise.Denoise", seconds=10.0),
    NodeDone(node="decode", type="vae.DecodeVideo", seconds=0.0, memoised=True),
]


def show(stream: io.StringIO, *, quiet: bool = False) -> str:
    progress = Progress(stream, label="[1/2] ", quiet=quiet)
    for event in EVENTS:
        progress.show(event)
    progress.close()
    assert (progress.steps, progress.rate) == (20, 2.0)
    return stream.getvalue()


def test_plain_lines() -> None:
    lines = show(io.StringIO()).split("\n")
    assert lines[:4] == [
        "[1/2] starts: 3 nodes, 20 steps",
        "[1/2] loading transformer (11.5 MB)",
        "[1/2] denoise: step 1/20, 2.00 steps/s, 0:10 left",
        "[1/2] denoise: step 2/20, 2.00 steps/s, 0:09 left",
    ]
    assert lines[-4:] == [
        "[1/2] denoise: step 20/20, 2.00 steps/s, 0:00 left",
        "[1/2] denoise: 10.00 s",
        "[1/2] decode: recalled from memory",
        "",
    ]
    assert len(lines) == 25


def test_one_is_no_plural() -> None:
    stream = io.StringIO()
    Progress(stream).show(Planned(nodes=1, steps=1))
    assert stream.getvalue() == "starts: 1 node, 1 step\n"


def test_moving_line() -> None:
    shown = show(Terminal())
    assert "\n" not in shown
    drawn = shown.split("\r")
    assert drawn[-1] == "\x1b[K"
    assert drawn[-2] == (
        "[1/2] denoise [########################] step 20/20, 2.00 steps/s, 0:00 left\x1b[K"
    )
    assert len(drawn) < 10  # drawn a few times a second, not at every step


def test_quiet() -> None:
    assert show(Terminal(), quiet=True) == ""


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (12, [*range(1, 13)]), (50, [*range(1, 51)]), (200, [1, *range(4, 201, 4)])],
)
def test_steps_that_are_logged(count: int, expected: list[int]) -> None:
    assert [i for i in range(1, count + 1) if is_logged(i, count)] == expected


def test_clock() -> None:
    assert [clock_text(s) for s in (0, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]


def result(milliseconds: float) -> Result:
    row = {"node": "denoise", "type": "denoise.Denoise", "duration_ms": milliseconds}
    return Result({}, [row | {"memoised": False}], [milliseconds / 2] * 2, {"end": {"peak": 1.0}})


def test_one_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_GIT_COMMIT", "abc")
    dump = perf_dump.perf_record(result(10.0), 0.02, "a \udcff", "demo")
    perf_dump.write(tmp_path / "new" / "perf.json", [dump])
    read = json.loads((tmp_path / "new" / "perf.json").read_text(encoding="utf-8"))
    assert set(read) == {
        *("timestamp", "request_id", "commit_hash", "tag", "total_duration_ms", "steps"),
        *("denoise_steps_ms", "memory_checkpoints", "meta", "nodes"),
    }
    assert read["timestamp"].endswith("+00:00")
    assert (read["commit_hash"], read["tag"], read["total_duration_ms"]) == (
        "abc",
        "cli_generate",
        20,
    )
    assert read["steps"] == [{"name": "denoise", "duration_ms": 10.0}]
    assert read["denoise_steps_ms"][1] == {"step": 1, "duration_ms": 5.0}
    assert read["memory_checkpoints"] == {"end": {"peak": 1.0}}
    assert read["meta"]["model"] == "demo"
    assert read["nodes"][0]["type"] == "denoise.Denoise"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["perf.json"]


def test_dump_of_several_runs() -> None:
    runs = [
        perf_dump.perf_record(result(ms), ms / 1000, p, "demo")
        for ms, p in ((10.0, "a"), (30.0, "b"))
    ]
    total = perf_dump.combine(runs)
    assert total["total_duration_ms"] == 40
    assert total["steps"] == [{"name": "denoise", "duration_ms": 40.0}]
    assert [step["step"] for step in total["denoise_steps_ms"]] == [0, 1, 2, 3]
    assert total["meta"] == {"prompt": ["a", "b"], "model": "demo"}
    assert total["runs"] == runs


def test_times_add_up() -> None:
    progress = Progress(io.StringIO())
    progress.began = 10.0
    progress.show(Planned(nodes=1, steps=2, time=15.6))
    progress.show(Loaded(component="vae", nbytes=1, seconds=0.5))
    progress.show(Stepped(node="denoise", index=1, count=2, seconds=0.5))
    assert progress.summary() == " (imports 5.6 s, loading 0.5 s, 1 step, 2.00 steps/s)"
