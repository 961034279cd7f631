"""Messages between server and engine: one small JSON object per line, over two pipes.

To the engine                                        From it
{"load": [settings], "replica": 0, "outputs": dir}   {"ready": {...}} or {"refused": message}
{"run": id, "runs", "names", "encoding"}             {"step": id, "done": k, "of": n}
{"cancel": id}                                       {"done": id, "files", "seconds",
                                                     "peak_memory_mb", "warnings"},
                                                     {"failed": id, "code", "message"} or
                                                     {"cancelled": id}
{"upload": id, "name"}                               {"uploaded": id, "name", "url"} or
                                                     {"upload_failed": id, "name", "message"}

The message that ends a job has "leaving": true where the engine is about to exit.

The engine exits when its pipe closes, whatever it is doing. Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.errors import Position
from runtime.settings.setting import Raw, Setting

ENDS = ("done", "failed", "cancelled")  # keys of the messages that end a job
# The folders of an absolute path, which no response may show. URLs and relative paths stay.
FOLDERS = re.compile(r"(?<![\w/:.~-])~?(?:/[^\s/'\"`]+)*/(?=[\w.])")


def encode_line(message: Mapping[str, Any]) -> bytes:
    """A message as its line."""
    return json.dumps(message).encode() + b"\n"


def pack_settings(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Settings as JSON, without those of the server: the engine must not get its API key."""
    return [
        {
            "path": list(s.path),
            "value": _pack_value(s.value),
            "name": s.name,
            "position": [s.position.file, s.position.line, s.position.column],
        }
        for s in settings
        if s.path[0] != "server"
    ]


def unpack_settings(packed: Iterable[Mapping[str, Any]]) -> list[Setting]:
    """The settings that `pack_settings` packed."""
    return [
        Setting(tuple(p["path"]), _unpack_value(p["value"]), p["name"], Position(*p["position"]))
        for p in packed
    ]


def _pack_value(value: Any) -> Any:
    """A value as JSON that marks text of type `Raw`. Maps are marked, too: a map with the key `raw`
    is not such text."""
    if isinstance(value, Raw):
        return {"raw": str(value)}
    if isinstance(value, Mapping):
        return {"map": {str(k): _pack_value(v) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return [_pack_value(v) for v in value]
    return value


def _unpack_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack_value(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "raw" in value:
        return Raw(value["raw"])
    return {k: _unpack_value(v) for k, v in value["map"].items()}


def strip_folders(text: str) -> str:
    """The text with absolute paths cut to their last part."""
    return FOLDERS.sub("", text)
