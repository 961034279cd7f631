"""Put the fragments of news/ together: `python3 scripts/changelog.py` prints them as one section.

With a version (`python3 scripts/changelog.py 0.2.0`) the section is put on top of CHANGELOG.md and
the fragments are removed. `--check` says which line of which fragment is not a sentence that ends
with its issue, `(#12)`.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAD = "# Changes\n"
CAPITAL, ISSUE = re.compile(r"[A-Z`\"]"), re.compile(r".*\(#\d+(, #\d+)*\)\.?")


def fragments(root: Path) -> list[Path]:
    """The files of news/, in order of name."""
    return sorted(path for path in (root / "news").glob("*.md") if path.name != "README.md")


def entries(path: Path) -> list[str]:
    """The entries of a fragment: one a line, with or without a dash before it."""
    lines = (
        line.strip().removeprefix("- ").strip() for line in path.read_text("utf-8").split("\n")
    )
    return [line for line in lines if line]


def wrong(root: Path) -> list[str]:
    """One line per entry that is no sentence or does not end with its issue."""
    found = []
    for path in fragments(root):
        for entry in entries(path):
            if not CAPITAL.match(entry):
                found.append(f"{path.relative_to(root)}: `{entry}` does not begin with a capital")
            if not ISSUE.fullmatch(entry):
                found.append(
                    f"{path.relative_to(root)}: `{entry}` does not end with its issue, (#12)"
                )
    return found


def section(root: Path, title: str) -> str:
    """All entries below a title."""
    listed = [f"- {entry}\n" for path in fragments(root) for entry in entries(path)]
    return f"## {title}\n" + "".join(listed)


def release(root: Path, version: str, day: str) -> None:
    """Move the fragments into CHANGELOG.md, as the newest section."""
    log = root / "CHANGELOG.md"
    older = log.read_text("utf-8").removeprefix(HEAD) if log.is_file() else ""
    log.write_text(f"{HEAD}\n{section(root, f'{version} ({day})')}{older}", "utf-8")
    for path in fragments(root):
        path.unlink()


def main(words: Sequence[str]) -> int:
    """Check, print or release; the exit code."""
    if problems := wrong(ROOT):
        print("\n".join(problems), file=sys.stderr)
        return 1
    if not words:
        print(section(ROOT, "Unreleased"), end="")
    elif words != ["--check"]:
        release(ROOT, words[0], datetime.datetime.now(tz=datetime.UTC).date().isoformat())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
