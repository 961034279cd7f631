"""What server and engine say to each other: one JSON object per line, small, over two pipes.

To the engine                                        From it
{"load": [settings], "replica": 0, "outputs": dir}   {"ready": {...}} or {"refused": message}
{"run": id, "runs", "names", "encoding"}             {"step": id, "done": k, "of": n}
{"cancel": id}                                       {"done": id, "files", "seconds",
                                                     "peak_memory_mb"}, {"failed": id, "code",
                                                     "message"} or {"cancelled": id}
{"upload": id, "name"}                               {"uploaded": id, "name", "url"} or
                                                     {"upload_failed": id, "name", "message"}
{"discard": id, "names"}: objects in the store       nothing

Behind the last word on a job, "leaving": true says that the engine is about to exit.

The engine exits when its pipe closes, whatever it is doing. Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.errors import Position
from runtime.settings.setting import Raw, Setting

ENDS = ("done", "failed", "cancelled")  # the last word on a job
# Folders of an absolute path, which no answer may show; neither URLs nor relative paths.
FOLDERS = re.compile(r"(?<![\w/:.~-])~?(?:/[^\s/'\"`]+)*/(?=[\w.])")


def line(message: Mapping[str, Any]) -> bytes:
    """A message as its line."""
    return json.dumps(message).encode() + b"\n"


def pack(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Settings as JSON; those of the server, its API key among them, are not the engine's."""
    return [
        {
            "path": list(s.path),
            "value": _packed(s.value),
            "name": s.name,
            "position": [s.position.file, s.position.line, s.position.column],
        }
        for s in settings
        if s.path[0] != "server"
    ]


def unpack(packed: Iterable[Mapping[str, Any]]) -> list[Setting]:
    """The settings that `pack` packed."""
    return [
        Setting(tuple(p["path"]), _unpacked(p["value"]), p["name"], Position(*p["position"]))
        for p in packed
    ]


def _packed(value: Any) -> Any:
    """A value as JSON that says which text is `Raw`; every map is marked, so that none is taken
    for a mark."""
    if isinstance(value, Raw):
        return {"raw": str(value)}
    if isinstance(value, Mapping):
        return {"map": {str(k): _packed(v) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return [_packed(v) for v in value]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "raw" in value:
        return Raw(value["raw"])
    return {k: _unpacked(v) for k, v in value["map"].items()}


def without_folders(text: str) -> str:
    """The text with absolute paths cut to their last part."""
    return FOLDERS.sub("", text)
