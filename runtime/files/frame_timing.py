"""The constant frame rate of a clip whose frames have times of their own. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FASTEST = 120.0  # frames per second; a shorter time between frames is a fault of the file


@dataclass(frozen=True)
class Timing:
    """When the frames of a clip are to be taken.

    rate   frames per second
    start  seconds at which the first frame is shown
    count  frames at that rate
    """

    rate: float
    start: float
    count: int

    def moment(self, index: int) -> float:
        """The middle of a frame at the constant rate: the frame shown then is taken."""
        return self.start + (index + 0.5) / self.rate

    def at(self, rate: float | None) -> Timing:
        """The same clip at another rate."""
        if rate is None:
            return self
        return Timing(rate, self.start, max(1, round(self.count * rate / self.rate)))


def timing(times: Sequence[float], last: float, tick: float, rate: float) -> Timing:
    """Find the constant rate of frames that are shown from these times on.

    times  seconds, ascending, at least one
    last   seconds for which the last frame is shown; 0 if unknown
    tick   seconds to which the file rounds times
    rate   frames per second that the file states; 0 if it does not

    Files at a constant rate keep it exactly. Where equal frames were merged or dropped, so that
    each lasts a whole number of steps, that step is the rate; else the average.
    """
    gaps = [b - a for a, b in pairwise(times)]
    if not gaps:
        return Timing(rate or (1 / last if last else 25.0), times[0], 1)
    near = 1.5 * tick
    middle = sorted(gaps)[len(gaps) // 2]
    if all(abs(gap - middle) <= near for gap in gaps):
        mean = len(gaps) / (times[-1] - times[0])
        exact = rate if rate and abs(rate / mean - 1) < 0.02 + tick * mean / len(gaps) else mean
        return Timing(exact, times[0], len(times))
    length = times[-1] - times[0] + (last or middle)
    step = _step([*gaps, *([last] if last else [])], near)
    found = round(length / step) / length if step else len(times) / length
    return Timing(found, times[0], max(1, round(length * found)))


def _step(gaps: Sequence[float], near: float) -> float:
    """The shortest usual time between frames if all others are whole multiples of it, else 0."""
    shortest = min(gap for gap in gaps if gap > 0)
    usual = [gap for gap in gaps if gap - shortest <= near]
    step = sum(usual) / len(usual)
    steps = [gap / step for gap in gaps]
    whole = all(abs(count - round(count)) < 0.25 for count in steps)
    return step if whole and len(usual) * 4 >= len(gaps) and 1 / step <= FASTEST else 0.0
