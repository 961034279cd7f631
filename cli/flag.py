"""One flag of the command line. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]


@dataclass(frozen=True)
class Flag:
    """One flag: the fields are those that flags.yaml explains.

    name   as listed, `--model-path`
    group  its section of --help
    path   the config path that it sets; empty for a flag that sets only `also`
    """

    name: str
    group: str
    path: Path
    type: str = "text"
    many: bool = False
    append: bool = False
    value: Any = True
    negated: bool = False
    also: Mapping[Path, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    commands: tuple[str, ...] = ("generate", "serve")
    metavar: str = ""
    help: str = ""

    @property
    def server_only(self) -> bool:
        """Whether only a server uses it."""
        return self.commands == ("serve",)

    @property
    def own(self) -> bool:
        """Whether only the command line uses it, so that it has no config path."""
        return self.path[:1] == ("cli",)
