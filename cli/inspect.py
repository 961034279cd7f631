"""`sglang inspect`: how a picture or a clip was made, read from the record in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.flags import nearest_name
from runtime import UserError
from runtime.provenance.read_back import provenance

HELP = """usage: sglang inspect FILE [--json]

Show how a picture or a clip was made: request, graph, components, seeds, versions.

  --json   one JSON object, for programs

Other programs can read the record: exiftool FILE, ffprobe -show_format FILE, Pillow's Image.info.
sglang generate --replay FILE repeats the run."""
INSPECT_FLAGS = ("--json", "--debug")
RECORD_SECTIONS = (
    *("graph", "model", "request", "settings", "local", "components", "execution", "versions"),
    "code",
)


def inspect(argv: Sequence[str]) -> int:
    """Run the command."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    files = [word for word in argv if word not in INSPECT_FLAGS]
    for word in files:
        if word.startswith("--"):
            best = nearest_name(word, INSPECT_FLAGS)
            help = f"did you mean `{best}`?" if best else "sglang inspect FILE [--json]"
            raise UserError(f"there is no flag `{word}`", help=help, field=word)
    if len(files) != 1:
        problem = "a file is missing" if not files else f"one file at a time, got {len(files)}"
        raise UserError(problem, help="sglang inspect FILE [--json]", field="file")
    found = provenance(Path(files[0]).expanduser())
    print(json.dumps(found, indent=2) if "--json" in argv else "\n".join(lines(found)))
    return 0


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The record as aligned lines: a section, a name and a value each."""
    rows = [
        (section, *row)
        for section in RECORD_SECTIONS
        for row in _rows(found.get(section) or {})
    ]  # fmt: skip
    noted = found.get("notes")
    rows += [("notes", "", printable(str(n))) for n in (noted if isinstance(noted, list) else ())]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    before = ""
    for section, name, value in rows:
        heading = section if section != before else ""
        before = section
        yield f"{heading:{widths[0]}}  {name:{widths[1]}}  {value}".rstrip()


def _rows(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        yield printable(name), value_text(value)


def value_text(value: Any) -> str:
    """A value on one line: text in quotes where it needs them, a map as its parts."""
    if isinstance(value, Mapping):
        pairs = ((printable(str(k)), value_text(v)) for k, v in value.items())
        return ", ".join(f"{k} {v}" for k, v in pairs)
    if isinstance(value, str) and value and " " not in value:
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """Text without terminal control sequences: a file may come from anyone."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
