"""What it costs to look for NaN and infinity at the end of denoising and decoding.

    python -m bench.finite_cost

The reduction of `nodes.finite.is_finite`, beside the conversion of the same pixels to bytes, which
every run makes anyway; the median of the rounds, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from nodes.finite import is_finite
from nodes.vae import to_bytes

SHAPES = {
    "latents of a picture, 1024x1024": (1, 16, 128, 128),
    "pixels of a picture, 1024x1024": (1, 3, 1024, 1024),
    "latents of a clip, 81x480x832": (1, 16, 21, 60, 104),
    "pixels of a clip, 81x480x832": (1, 3, 81, 480, 832),
}


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| | the check | to bytes |\n|---|---|---|")
    for name, shape in SHAPES.items():
        x = torch.rand(shape) * 2 - 1
        check = milliseconds(partial(is_finite, x), rounds)
        convert = milliseconds(partial(to_bytes, x), rounds) if "pixels" in name else None
        print(f"| {name} | {check:.2f} ms | {'' if convert is None else f'{convert:.1f} ms'} |")


if __name__ == "__main__":
    main()
