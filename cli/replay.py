"""`sglang generate --replay FILE`: repeat the run that made a file, from the record in it.

Settings on the command line override the record. A record has no local folders and no input
pictures: the user gives them again, and their digests are compared. A file may come from anyone:
its record can name installed graphs and models on the hub, and cannot make a model's code run.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.console import Console, RecordError
from cli.inspect import printable, value_text
from cli.naming import split_name
from runtime import Position, Runtime, Setting, UserError
from runtime.checkpoint.hub import is_hub_id
from runtime.contract.rules import Rung
from runtime.files.image_files import MEDIA_TYPES, read_image
from runtime.files.video_files import read_video
from runtime.graph.catalog import entries
from runtime.provenance.read_back import (
    ENCODING,
    NOT_RECORDED,
    RECORDED_ELSEWHERE,
    differences,
    has_folder,
    provenance,
)
from runtime.settings.policies import policy_fields

FLAG_OF_PATH = {"model.path": "--model-path"}
REPLAYED_SECTIONS = ("nodes", "components", "outputs", "request")
TILING = "vae.tiling"
FORCED: Mapping[str, str] = {
    Rung.FORGET: "results kept for later requests were dropped, which changes nothing in it",
    Rung.EVICT: "other components left the device, which changes nothing in it",
    Rung.SPLIT: "calls of a batch were answered one by one",
    Rung.TILE: "it worked in tiles",
}
RecordData = Mapping[str, Any]


@dataclass(frozen=True)
class Replay:
    """A file to replay.

    path   the file itself, where its record lies beside it
    known  dotted paths of the settings on the command line
    """

    path: Path
    record: RecordData
    known: frozenset[str]

    @classmethod
    def of(cls, file: str, given: Sequence[Setting]) -> Replay:
        """Read a file's record; a UserError names inputs that the record lacks and nobody gave."""
        path = Path(file).expanduser()
        record = provenance(path)
        named = path.with_suffix("")
        beside = path.suffix.lower() == ".json" and named.suffix.lower() in MEDIA_TYPES
        produced = cls(named if beside else path, record, frozenset(s.dotted for s in given))
        produced._check()
        return produced

    def settings(self) -> list[Setting]:
        """The settings of the record, without those that the command line overrides."""
        at = Position(str(self.path))
        values = [
            (path, value) for path, value in self._recorded_values() if path not in self.known
        ]
        return [Setting(tuple(path.split(".")), value, path, at) for path, value in values]

    def _recorded_values(self) -> Iterator[tuple[str, Any]]:
        from runtime import device

        model, request = self.record["model"], self.record["request"]
        yield "graph", self.record["graph"]["name"]
        if is_hub_id(str(model.get("hub", ""))) and "model.path" not in self.known:
            yield "model.path", model["hub"]
            yield "model.revision", model.get("revision")
        for path, value in self.record["settings"].items():
            whole = path.rpartition(".")[0] + ".path"
            if not (path.endswith(".revision") and whole in self.known):
                yield path, value
        if self._is_tiled():
            yield TILING, True
        for name, value in request.items():
            if not _is_input(value):
                yield f"request.{name}", value
        if (place := self.record["execution"].get("device")) in device.available():
            yield "placement.device", place
        if self.path.suffix.lower() == ".npy":
            yield "output.return_frames", True
        if "output.file_path" not in self.known:
            yield "output.file_name", self._name()

    def _is_tiled(self) -> bool:
        """Whether memory forced a VAE into tiles that nobody had asked for."""
        return Rung.TILE in self._recovery().values() and TILING not in self.record["settings"]

    def _recovery(self) -> dict[str, str]:
        """Component to what was done because memory was short, as the file says."""
        found = self.record["execution"].get("recovery")
        return {n: str(v) for n, v in found.items()} if isinstance(found, Mapping) else {}

    def _name(self) -> str:
        """A file name for the result, with the suffix of the original."""
        name = f"{self.path.stem}_replay{self.path.suffix}"
        try:
            split_name(name)
        except UserError:
            return f"replay{self.path.suffix}"
        return name

    def _check(self) -> None:
        for path, value in self.record["settings"].items():
            if not _is_allowed(path, value):
                raise RecordError(
                    f"{self.path} sets `{printable(path)}`, which a record may not set",
                    help="the file was changed since; take the original", field="replay",
                )  # fmt: skip
        wanted = {f"request.{n}": v for n, v in self.record["request"].items() if _is_input(v)}
        wanted |= self.record["local"]
        if "folder" in self.record["model"]:
            wanted["model.path"] = self.record["model"]["folder"]
        missing = {path: value for path, value in wanted.items() if path not in self.known}
        if missing:
            what = ", ".join(f"{_flag(path)} ({_named(v)})" for path, v in missing.items())
            raise UserError(
                f"{self.path} was made from local files that it does not contain: {what}",
                help="give them again: " + " ".join(f"{_flag(path)} ..." for path in missing),
                field="replay",
            )
        graph = self.record["graph"]["name"]
        if "graph" not in self.known and graph not in entries():
            raise UserError(
                f"{self.path} was made with graph `{printable(graph)}`, which is not on the search"
                " path", help="give its file: --graph FILE", field="replay",
            )  # fmt: skip

    def begin(
        self, session: Runtime, request: RecordData, now: RecordData, console: Console
    ) -> None:
        """Report differences from the record.

        request  the complete request: what it reads must have been given by the person
        now      the record of the run that is to come
        """
        for name, field in session.fields.items():
            given = f"request.{name}" in self.known or request.get(name) is None
            if field.type in {"image", "video", "file", "path"} and not given:
                raise UserError(
                    f"{self.path} names `{name}` as {value_text(str(request[name]))}; "
                    "a file that only a record names is not read",
                    help=f"give it: {_flag('request.' + name)} ...",
                    field=f"request.{name}",
                )  # fmt: skip
        for component, rung in self._recovery().items():
            what = FORCED.get(rung, printable(rung))
            tiles = f"; `{TILING}=true` stands for it" if rung == Rung.TILE else ""
            console.note(
                f"note: --replay: memory was short for `{printable(component)}` when"
                f" {self.path} was made, and {what}{tiles}"
            )
        known = {f"settings.{TILING}"} if self._is_tiled() else set()
        found = [
            (path, then, here)
            for path, then, here in differences(self.record, now)
            if not path.startswith("execution.recovery.") and path not in known
        ]
        for path, then, here in found:
            text = f"note: --replay: {_difference(path, then, here)}"
            console.note(text, "warning", paths_as_they_are=True)
        if found:
            console.note(f"note: --replay: the result may differ from {self.path}", "warning")

    def force(self) -> None:
        """Use the recorded number of threads and kernels, from here on in this process."""
        from runtime import device

        device.force(self.record["execution"])

    def verdict(self, produced: Sequence[Path], console: Console) -> None:
        """Report whether one of the new files equals the original."""
        files = [path for path in produced if path.is_file()]
        if not self.path.is_file() or not files:
            return
        if any(filecmp.cmp(path, self.path, shallow=False) for path in files):
            console.note(f"bit for bit the same as {self.path}")
        elif any(_equal(path, self.path) for path in files):
            console.note(f"the same pixels as {self.path}")
        else:
            console.note(f"note: --replay: the result differs from {self.path}", "warning")


def _is_allowed(path: str, value: Any) -> bool:
    """Whether a record may set this: it must reach neither folders nor object stores nor code."""
    head, _, rest = path.partition(".")
    if has_folder(value) or path in RECORDED_ELSEWHERE:
        return False
    if head == "components" and rest.endswith(".path"):
        return isinstance(value, str) and is_hub_id(value)
    if head in REPLAYED_SECTIONS:
        return path.count(".") > (head == "request")
    fields = policy_fields().get(head, {})
    return rest in ENCODING if head == "output" else head not in NOT_RECORDED and rest in fields


def _is_input(value: Any) -> bool:
    """Whether a request value is a picture or a file, or several: its name and digest."""
    listed = value if isinstance(value, list) else [value]
    return bool(listed) and all(isinstance(v, Mapping) and "digest" in v for v in listed)


def _flag(path: str) -> str:
    """The flag of a path, as a person would type it."""
    words = path.replace("_", "-").split(".")
    if words[0] == "components" and words[2:] == ["path"]:
        return f"--{words[1]}-path"
    return f"--{words[1]}" if words[0] == "request" else FLAG_OF_PATH.get(path, f"{path}=")


def _named(value: Any) -> str:
    """The names in the record of one input or several."""
    listed = value if isinstance(value, list) else [value]
    names = [str(v.get("name", "")) if isinstance(v, Mapping) else str(v) for v in listed]
    return printable(", ".join(filter(None, names))) or "without a name"


def _difference(path: str, then: Any, here: Any) -> str:
    if then is None:
        return f"`{printable(path)}` is {value_text(here)}, and the record has none"
    if here is None:
        return f"`{printable(path)}` was {value_text(then)}, and is not there now"
    return f"`{printable(path)}` was {value_text(then)}, and is {value_text(here)} now"


def _equal(one: Path, other: Path) -> bool:
    """Whether two files of the same kind hold the same pixels."""
    import numpy as np

    if one.suffix.lower() != other.suffix.lower() or one.suffix.lower() == ".npy":
        return False
    try:
        if one.suffix.lower() in {".mp4", ".gif"}:
            return bool(np.array_equal(read_video(one)[0], read_video(other)[0]))
        return bool(np.array_equal(read_image(one), read_image(other)))
    except UserError:
        return False
