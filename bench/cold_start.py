"""Cold start: CPU seconds from process start to PNG, ours and vanilla diffusers in turn.

    python -m bench.cold_start [--rounds 5] [--model demo/checkpoint]

Children run with one thread; the figure is their user and system time, so that a busy machine
disturbs little. Order alternates (ABBA). The two pictures are compared in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
PROMPT = "a red circle on a blue background"


def used() -> float:
    """CPU seconds of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure(command: list[str]) -> float:
    """CPU seconds of one command, from its start to its end."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before = used()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr.decode()}")
    return used() - before


def main() -> None:
    """Run the rounds and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="demo/checkpoint")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.png", Path(folder) / "vanilla.png"
        commands = {
            "ours": [
                *(sys.executable, "-m", "cli.main", "generate", "--model-path", options.model),
                *("--prompt", PROMPT, "--output-path", folder, "--output-file-name", ours.name),
            ],
            "vanilla": [sys.executable, "bench/vanilla.py", options.model, PROMPT, str(theirs)],
        }
        times: dict[str, list[float]] = {"ours": [], "vanilla": []}
        for command in commands.values():
            measure(command)  # warm the disk cache and compiled modules: not counted
        for index in range(options.rounds):
            for name in sorted(commands, reverse=bool(index % 2)):
                times[name].append(measure(commands[name]))
        report(times, difference(ours, theirs))


def difference(a: Path, b: Path) -> int:
    """The largest difference between two pictures in steps of 1/255."""
    from runtime.files.image_files import read_image

    return int(np.abs(read_image(a).astype(int) - read_image(b).astype(int)).max())


def report(times: dict[str, list[float]], apart: int) -> None:
    """Print what was measured."""
    ratios = [b / a for a, b in zip(times["ours"], times["vanilla"], strict=True)]
    for name, values in times.items():
        listed = ", ".join(f"{v:.2f}" for v in values)
        print(f"{name:8} median {statistics.median(values):.2f} CPU-s  ({listed})")
    print(
        f"ratio    median {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    print(f"pictures differ by at most {apart}/255")


if __name__ == "__main__":
    main()
