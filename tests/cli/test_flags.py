"""The flag table: complete, frozen, and shown by --help."""

from pathlib import Path

import pytest

from cli.flags import flag_table, flat_name
from cli.help import command_help, is_connected
from cli.keys import find
from cli.parser import parse
from runtime import Runtime


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split()


def test_every_documented_flag_is_known(data: Path) -> None:
    """flags_a1.txt: the flags, aliases and config keys that the published documentation names."""
    unknown = [
        name
        for name in lines(data / "flags_a1.txt")
        if find(flag_table(), tuple(flat_name(name).split("."))) is None
    ]
    assert unknown == []


def test_names_are_frozen(data: Path) -> None:
    """A flag is a promise: flags.txt changes with intent, and only grows."""
    assert sorted(flag_table().spellings()) == lines(data / "flags.txt")


def test_no_name_is_taken_twice() -> None:
    assert len(flag_table().names) == len(flag_table().spellings())


@pytest.mark.parametrize("command", ["generate", "serve"])
def test_every_flag_parses(command: str) -> None:
    for flag in flag_table().flags:
        if command not in flag.commands or flag.own:
            continue
        value = [] if flag.type == "bool" else ["a=1" if flag.type == "map" else "1"]
        assert parse([flag.name, *value], command).settings, flag.name


@pytest.mark.parametrize("width", [40, 80, 120])
def test_help_fits_and_names_every_flag(width: int) -> None:
    text = command_help("generate", "all", width=width)
    for flag in flag_table().flags:
        assert (flag.name in text) == ("generate" in flag.commands), flag.name
    assert all(len(line) <= width for line in text.split("\n")) or width == 40
    head, _, tail = text.partition("not connected in this version")
    assert "--prompt" in head
    consumed = Runtime.consumed()
    for flag in flag_table().flags:
        if "generate" in flag.commands:
            assert f" {flag.name}" in (head if is_connected(flag, consumed) else tail)
