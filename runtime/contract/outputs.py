"""What a run leaves behind: where files go, and the files that were written. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from runtime.contract.rules import effect


@effect
@dataclass(frozen=True)
class File:
    """A file that was written whole. media_type as in HTTP, size in bytes."""

    path: Path
    media_type: str
    size: int


@effect
@dataclass(frozen=True)
class Url:
    """An object in the object store. url: public, percent-encoded. key: its name there."""

    url: str
    key: str


@dataclass(frozen=True)
class Destination:
    """Where a save node writes, and how it encodes.

    folder       created when missing; nothing is ever written outside it
    name         file name without suffix, already safe
    suffix       `.png`, `.jpg`, `.webp`, `.mp4`, `.gif`; empty: the node's default for what it
               saves
    quality      default | low | medium | high | maximum
    compression  0 to 100, overrides quality; none: by quality
    x264_preset  speed of the H.264 encoder
    record       gives how the files were made, as JSON text that they carry; asked when a file is
                 complete, so that it says what happened. The engine fills it in
    """

    folder: Path
    name: str
    suffix: str = ""
    quality: str = "default"
    compression: int | None = None
    x264_preset: str = "fast"
    record: Callable[[], str] | None = field(default=None, compare=False, repr=False)
    on_host: ClassVar[bool] = True

    @property
    def metadata(self) -> str:
        """How the files were made, as far as it has happened; empty where they say nothing."""
        return self.record() if self.record else ""
