"""What the engine itself costs: CPU time of a request beside the work of its nodes.

    python -m bench.overhead [--steps 100] [--rounds 5]

The demo model at 64 x 64, one thread. A node's own seconds are of its code and its networks; what
else passes between its first event and its last is the engine's. Prints medians, minima and maxima
of microseconds per denoising step and of milliseconds per request.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SGLANG_GRAPH_UNTRAINED", "1")

from runtime import Runtime, device  # after the number of threads is set
from runtime.events import NodeDone, NodeStarted

PROMPT = "a red circle on a blue background"
LOOP = "denoise"


def request(steps: int) -> dict[str, Any]:
    """A request that is mostly steps."""
    return {"prompt": PROMPT, "height": 64, "width": 64, "num_inference_steps": steps}


def once(runtime: Runtime, steps: int, seed: int) -> tuple[float, float]:
    """Seconds of the engine: per step of the loop, and per request outside of nodes."""
    began, inside, per_step = time.thread_time(), 0.0, 0.0
    started = 0.0
    for event in runtime.start(outputs=["video"], seed=seed, **request(steps)):
        if isinstance(event, NodeStarted):
            started = time.thread_time()
        elif isinstance(event, NodeDone) and not event.memoised:
            took = time.thread_time() - started
            inside += took
            if event.node == LOOP:
                per_step = (took - event.seconds) / steps
    return per_step, time.thread_time() - began - inside


def calls_per_step(runtime: Runtime) -> float:
    """Python functions of the engine that are called for one more step."""
    return (counted(runtime, 30) - counted(runtime, 10)) / 20


def counted(runtime: Runtime, steps: int) -> int:
    """Calls of functions in runtime/ while a request runs, the forwards of networks left out."""
    counts: Counter[str] = Counter()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            counts[frame.f_globals.get("__name__", "").split(".")[0]] += 1

    run = runtime.start(outputs=["video"], seed=1, **request(steps))
    sys.setprofile(profile)
    try:
        for _ in run:
            pass
    finally:
        sys.setprofile(None)
    return counts["runtime"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    device.clock = time.thread_time  # other processes do not count
    runtime = Runtime.load()
    once(runtime, 2, 0)
    rounds = [once(runtime, asked.steps, 1 + i) for i in range(asked.rounds)]
    for name, values, unit in (
        ("per step", [a * 1e6 for a, _ in rounds], "us"),
        ("per request", [b * 1e3 for _, b in rounds], "ms"),
    ):
        low, high = min(values), max(values)
        print(f"{name}: median {statistics.median(values):.1f} {unit} ({low:.1f} to {high:.1f})")
    print(f"Python calls of the engine per step: {calls_per_step(runtime):.0f}")


if __name__ == "__main__":
    main()
