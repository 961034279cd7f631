"""Kill -9 of engines and servers under load: is a job that was accepted ever lost, or done twice?

    python -m bench.kills [--rounds 50] [--minutes M] [--seed 0]

A real `sglang serve` with the demo model; a thread keeps sending tiny clips. In each round the
engine, the server or both are killed at a random moment, and the server is started again where it
was killed. In the end every clip whose POST was answered 200 must have been completed once, with
its files and no others. Linux only: processes are found in /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av

Kind = Literal["engine", "server", "both"]
KINDS: tuple[Kind, ...] = ("engine", "server", "both")
ROOT = Path(__file__).parent.parent
MARK = "SGLANG_BENCH_KILLS"  # in the environment of our processes, and of no others
ATTEMPTS = 50
LONGEST_WAIT = 240.0  # seconds for anything that must happen
FRAMES, SIDE = 5, 64
CLIP = {
    "prompt": "a red circle on a blue background", "size": f"{SIDE}x{SIDE}",
    "num_frames": FRAMES, "num_inference_steps": 2,
}  # fmt: skip
# Written in the transaction of each change, so that it tells what happened in spite of the kills.
WITNESS = """
CREATE TABLE witness (id TEXT, was TEXT, now TEXT);
CREATE TRIGGER witness_change AFTER UPDATE OF status ON jobs
    BEGIN INSERT INTO witness VALUES (NEW.id, OLD.status, NEW.status); END;
"""


class Server:
    """A server on a folder, started again and again. address: host and port, while it listens."""

    def __init__(self, folder: Path) -> None:
        self.outputs, self._log = folder / "outputs", folder / "server.log"
        self.address = ""
        self._token = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._log.touch()
        seen = self._log.stat().st_size
        command = [
            *(sys.executable, "-m", "cli.main", "serve", "--port", "0"),
            *("--output-path", str(self.outputs), "--job-attempts", str(ATTEMPTS)),
            *("--max-queue", "64", "--keep-jobs", "100000"),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", MARK: self._token}
        environment["SGLANG_GRAPH_UNTRAINED"] = "1"  # it asks for small clips of any prompt
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log
            )

        def announced() -> str | None:
            reply = self._log.read_bytes()[seen:].decode(errors="replace")
            if process.poll() is not None:
                raise RuntimeError(f"the server stopped by itself:\n{reply}")
            found = re.search(r"listening on http://(\S+)", reply)
            return found[1] if found else None

        self.address = until(announced) or ""

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and the end that follows."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError("the server did not stop within 60 s of SIGTERM") from None

    def engines(self) -> list[int]:
        """Processes of the engines that run, whichever server started them."""
        numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
        return [pid for pid in numbers if self._is(pid)]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer. Raises OSError or HTTPException where none came whole."""
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            reply = None if body is None else json.dumps(body)
            connection.request(method, path, reply, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def stats(self) -> dict[str, Any]:
        """What `/stats` says."""
        found: dict[str, Any] = self.ask("GET", "/stats")[1]
        return found

    def _is(self, pid: int) -> bool:
        folder = Path(f"/proc/{pid}")
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"server.engine_process" in words and f"{MARK}={self._token}".encode() in environment


class Load(threading.Thread):
    """Sends clips until `stop`. accepted: ids answered with 200; unanswered: POSTs cut off."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__(daemon=True)
        self.accepted: dict[str, int] = {}  # id to number of outputs
        self.unanswered = 0
        self.odd: list[str] = []  # answers that should never come
        self._server, self._random = server, random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """Send a clip whenever few wait; a server that is away is waited out."""
        while not self._over.wait(0.15):
            with suppress(OSError, http.client.HTTPException, ValueError):
                if self._server.stats()["queued"] < 4:
                    self.send()

    def burst(self) -> list[threading.Thread]:
        """Send several clips at once; the threads that do."""
        threads = [threading.Thread(target=self.send, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        return threads

    def send(self) -> None:
        """Send one clip."""
        count, seed = self._random.choice((1, 1, 2)), self._random.randrange(2**31)
        try:
            status, reply = self._server.ask(
                "POST", "/v1/videos", CLIP | {"n": count, "seed": seed}
            )
        except ConnectionRefusedError:
            return
        except (OSError, http.client.HTTPException, ValueError):
            self.unanswered += 1
            return
        if status == 200:
            self.accepted[reply["id"]] = count
        elif status != 429:
            self.odd.append(f"POST was answered {status}: {reply}")

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self.join()


@dataclass
class Report:
    """What happened, and what is wrong with it."""

    kills: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    unanswered: int = 0
    unanswered_kept: int = 0  # accepted, but the answer was cut off: they must end too
    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    engines_left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.orphans or self.engines_left or self.wrong)

    def table(self) -> str:
        """The report for people."""
        kills = ", ".join(f"{kind} {self.kills[kind]}" for kind in KINDS)
        tries = ", ".join(f"{tries}: {jobs}" for tries, jobs in sorted(self.attempts.items()))
        rows: dict[str, Any] = {
            "rounds": self.kills.total(),
            "kills": kills,
            "accepted (POST answered 200)": self.accepted,
            "POST cut off (kept all the same)": f"{self.unanswered} ({self.unanswered_kept})",
            **dict(sorted(self.statuses.items())),
            "jobs by attempts": tries,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "orphan files": len(self.orphans),
            "engines left over": len(self.engines_left),
            "otherwise wrong": len(self.wrong),
        }
        bad = [*self.lost, *self.doubled, *self.orphans, *self.engines_left, *self.wrong]
        return "\n".join([f"{name:34}{value}" for name, value in rows.items()] + bad)


def rounds(
    folder: Path, kinds: Sequence[Kind], seed: int, *, seconds: float = float("inf"),
    early: float = 0.25,
) -> Report:  # fmt: skip
    """Run a round for each of `kinds`, as long as there is time; then wait for every job and judge.

    early  share of the rounds that kill while an engine is being started, or has just been
    """
    chance, report, server = random.Random(seed), Report(), Server(folder)
    end = time.monotonic() + seconds
    server.start()
    with closing(sqlite3.connect(server.outputs / "jobs.sqlite3")) as database:
        database.executescript(WITNESS)
    load = Load(server, seed)
    load.start()
    try:
        for kind in kinds:
            if time.monotonic() > end:
                break
            _one_round(server, load, kind, chance, is_early=chance.random() < early, report=report)
        load.stop()
        _wait_for_all(server, load.accepted, report)
    finally:
        load.stop()
        server.stop()
    report.accepted, report.unanswered = len(load.accepted), load.unanswered
    report.wrong += load.odd
    report.engines_left += [f"engine {pid} is left over" for pid in _remaining(server, set())]
    judge(server.outputs, load.accepted, report)
    return report


def _one_round(
    server: Server, load: Load, kind: Kind, chance: random.Random, *, is_early: bool, report: Report
) -> None:
    """Wait for a moment, kill, and start again what does not start by itself.

    A server is killed amid POSTs, some of which are on the disk already and not yet answered.
    """
    if is_early:
        until(server.engines)
        time.sleep(chance.uniform(0, 4))
    else:
        until(lambda: server.stats()["running"])
        time.sleep(chance.uniform(0, 2))
    engines = until(server.engines) or []
    steps: list[Callable[[], None]] = []
    if kind != "engine":
        steps.append(server.kill)
    if kind != "server":
        steps += [partial(_kill, pid) for pid in engines]
    chance.shuffle(steps)
    posts = load.burst() if kind != "engine" else []
    time.sleep(chance.uniform(0, 0.06) if posts else 0)
    for step in steps:
        step()
    for post in posts:
        post.join()
    report.kills[kind] += 1
    if kind != "engine":
        server.start()
    report.engines_left += [
        f"engine {pid} outlived the kill of its {kind}"
        for pid in _remaining(server, set(server.engines()) - set(engines))
    ]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _remaining(server: Server, wanted: set[int], patience: float = 10.0) -> list[int]:
    """Engines besides those wanted that are still there after a while."""
    end = time.monotonic() + patience
    first = set(server.engines()) - wanted
    while (left := first & set(server.engines())) and time.monotonic() < end:
        time.sleep(0.1)
    return sorted(left)


def _wait_for_all(server: Server, accepted: dict[str, int], report: Report) -> None:
    """Wait until all jobs are over, and look at those accepted as a client does."""
    until(lambda: not (now := server.stats())["queued"] + now["running"])
    for id in accepted:
        status, reply = server.ask("GET", f"/v1/videos/{id}")
        if status != 200 or reply["status"] != "completed":
            report.lost.append(f"{id}: GET answers {status}, {reply.get('status')}")


def judge(outputs: Path, accepted: dict[str, int], report: Report) -> None:
    """Compare the rows, what the witness saw, and the files."""
    with closing(sqlite3.connect(outputs / "jobs.sqlite3")) as database:
        rows = database.execute(
            "SELECT id, status, attempts, completed_at, files, runs FROM jobs"
        ).fetchall()
        seen = Counter(database.execute("SELECT id, now FROM witness").fetchall())
    report.lost += [f"{id}: no row" for id in accepted.keys() - {row[0] for row in rows}]
    expected: set[str] = set()
    for id, status, attempts, completed_at, files, runs in rows:
        report.statuses[status] += 1
        report.attempts[attempts] += 1
        report.unanswered_kept += id not in accepted
        if status != "completed":
            report.wrong.append(f"{id} is {status} after {attempts} attempts")
            continue
        if seen[id, "completed"] != 1:
            report.doubled.append(f"{id} was completed {seen[id, 'completed']} times")
        if seen[id, "in_progress"] != attempts:
            begun = seen[id, "in_progress"]
            report.wrong.append(f"{id} was begun {begun} times and counts {attempts} attempts")
        names = {f"{id}_{index}.mp4" for index in range(accepted.get(id, len(json.loads(runs))))}
        if {file["name"] for file in json.loads(files)} != names:
            report.wrong.append(f"{id} names other files: {files}")
        expected |= names
        for path in (outputs / name for name in names):
            if problem := _problem(path):
                report.wrong.append(f"{path.name}: {problem}")
            elif path.stat().st_mtime > completed_at + 1:
                report.doubled.append(f"{path.name} was written after its job was completed")
    inputs = outputs / "inputs"
    found = {p.name for p in outputs.iterdir() if p != inputs and "jobs.sqlite3" not in p.name}
    report.orphans += [f"orphan {name}" for name in sorted(found - expected)]
    report.orphans += [f"orphan inputs/{path.name}" for path in inputs.iterdir()]


def _problem(path: Path) -> str | None:
    """What is wrong with a clip, if anything."""
    try:
        with av.open(str(path)) as clip:
            sizes = [(frame.height, frame.width) for frame in clip.decode(video=0)]
    except (OSError, av.FFmpegError) as problem:
        return f"cannot be decoded: {problem}"
    return None if sizes == [(SIDE, SIDE)] * FRAMES else f"holds frames {sizes}"


def until(found: Callable[[], Any]) -> Any:
    """Wait for something true."""
    end = time.monotonic() + LONGEST_WAIT
    while not (value := found()):
        if time.monotonic() > end:
            raise TimeoutError(f"it did not happen within {LONGEST_WAIT:g} s")
        time.sleep(0.05)
    return value


def main() -> int:
    """Run the rounds and print the table; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round after")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = random.Random(options.seed).choices(KINDS, k=options.rounds)
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="kills-")
    report = rounds(Path(folder), kinds, options.seed, seconds=options.minutes * 60)
    print(report.table())
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    if not report.is_clean:
        print(f"the server's log and outputs stay in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
