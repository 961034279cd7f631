"""A folder of a model, on disk or partly still on the hub. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.checkpoint.file_faults import folder_fault, json_value, reading
from runtime.checkpoint.hub import RemoteFile, Repo
from runtime.errors import UserError


@dataclass(frozen=True)
class Folder:
    """Files of one folder. repo: what it is a snapshot of, where it comes from the hub."""

    path: Path
    repo: Repo | None = None

    def child(self, name: str) -> Folder:
        """The subfolder `name`."""
        return Folder(self.path / name, self.repo)

    def names(self) -> list[str]:
        """Names of the files directly inside, whether on disk or only on the hub.

        A broken link counts as a file: whoever needs it learns what it is.
        """
        return sorted({p.name for p in self._entries() if not p.is_dir()} | set(self._remote()))

    def folders(self) -> list[str]:
        """Names of the folders on disk directly inside."""
        return sorted(p.name for p in self._entries() if p.is_dir())

    def exists(self) -> bool:
        """Whether the folder is on disk."""
        with reading(self.path):
            return self.path.is_dir()

    def on_disk(self, name: str) -> bool:
        """Whether a file is on disk."""
        with reading(self.path / name):
            return (self.path / name).is_file()

    def has_entry(self, name: str) -> bool:
        """Whether there is anything of that name on disk, a broken link included."""
        with reading(self.path / name):
            try:
                (self.path / name).lstat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def remote(self, name: str) -> RemoteFile:
        """What the hub says about a file that may not be on disk yet."""
        return self._remote().get(name, RemoteFile(0, ""))

    def repo_path(self, name: str) -> str:
        """The path of a file in its repository."""
        return f"{self._prefix()}{name}"

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; empty where there is no such file."""
        path = self.path / name
        if not self.has_entry(name):
            return {}
        value = json_value(path)
        if not isinstance(value, dict):
            raise UserError(f"{path} holds no JSON object.", help="download the file again")
        return value

    def _entries(self) -> list[Path]:
        if problem := folder_fault(self.path):
            raise problem
        return list(self.path.iterdir()) if self.exists() else []

    def _prefix(self) -> str:
        inside = self.path.relative_to(self.repo.root).as_posix() if self.repo else "."
        return "" if inside == "." else f"{inside}/"

    def _remote(self) -> Mapping[str, RemoteFile]:
        if self.repo is None:
            return {}
        start = self._prefix()
        inside = {n[len(start) :]: f for n, f in self.repo.files.items() if n.startswith(start)}
        return {name: file for name, file in inside.items() if "/" not in name}
