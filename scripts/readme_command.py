"""Print the n-th fenced `bash` block of the README: what a newcomer pastes is what CI runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def commands() -> list[str]:
    """The README's `bash` blocks, in order."""
    text = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    return [b.strip() for b in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


if __name__ == "__main__":
    print(commands()[int(sys.argv[1]) - 1])
