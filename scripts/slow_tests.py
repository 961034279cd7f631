"""Write tests/slow.txt from measured durations: `python3 scripts/slow_tests.py LOG`.

LOG is what `python3 -m pytest --durations=0 -vv` printed. Of a test all phases count, and all cases
of a parametrised one together. Whatever takes longer than two seconds is slow.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

SLOW = Path(__file__).parent.parent / "tests/slow.txt"
SECONDS = 2.0
LINE = re.compile(r"^\s*(\d+\.\d+)s (?:call|setup|teardown)\s+(\S+?::\S+?)(\[.*)?$", re.MULTILINE)


def slow(log: str, limit: float = SECONDS) -> list[str]:
    """`file::function` of all tests that take longer than the limit, sorted."""
    seconds: Counter[str] = Counter()
    for taken, name, _ in LINE.findall(log):
        seconds[name] += float(taken)  # type: ignore[assignment]  # a sum, not a count
    return sorted(name for name, taken in seconds.items() if taken > limit)


if __name__ == "__main__":
    head = [line for line in SLOW.read_text("utf-8").splitlines() if line.startswith("#")]
    names = slow(Path(sys.argv[1]).read_text("utf-8"))
    SLOW.write_text("\n".join([*head, *names]) + "\n", "utf-8")
