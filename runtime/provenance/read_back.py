"""How a file was made, read back from it: checked, since anyone may have written it, and compared.

Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from runtime.errors import UserError
from runtime.files.data_url import is_data_url
from runtime.files.embedded_text import (
    ASCII,
    COMMENT_KEY,
    EXIF_IFD,
    PROVENANCE_KEY,
    USER_COMMENT,
    sidecar_path,
)
from runtime.files.image_formats import DECODE_ERRORS, readable_formats
from runtime.provenance.packages import MARK, NOT_INSTALLED

MAX_RECORD_BYTES = 64 * 2**20
RECORD_VERSION = 1  # the version that is written
MAPS = (
    *("graph", "model", "request", "settings", "local", "components", "code", "execution"),
    "versions",
)
# Policies that change no pixel; what a file is named and where it goes is its user's.
NOT_RECORDED = frozenset({"output", "server", "storage", "memo", "adjust", "parallel"})
# Told elsewhere; and code that a model brings runs only where its user says so, each time.
RECORDED_ELSEWHERE = frozenset(
    {"model.path", "model.revision", "model.trust_remote_code", "placement.device"}
)
ENCODING = ("quality", "compression", "x264_preset")
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
ABSOLUTE = re.compile(r"/|~|file:|" + WINDOWS.pattern, re.IGNORECASE)
# Facts of a run that may differ without a difference to its result.
NAMES_ONLY = frozenset({"model", "local", "notes"})


def provenance(path: Path) -> dict[str, Any]:
    """How a file was made; a UserError where it does not say so in a way that can be read."""
    text = read_record(path)
    found: Any = None
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
    if not isinstance(found, dict) or PROVENANCE_KEY not in found:
        raise UserError(
            f"{path} does not say how it was made",
            help="it was made with `output.metadata=false` or by another program, or edited since",
            field="file",
        )
    if found[PROVENANCE_KEY] != RECORD_VERSION:
        raise UserError(
            f"{path} has provenance of version {found[PROVENANCE_KEY]!r:.20}, not {RECORD_VERSION}",
            help="upgrade this package", field="file",
        )  # fmt: skip
    for name in MAPS:
        if not isinstance(found.get(name), dict):
            raise _wrong(path, name)
    if not isinstance(found["graph"].get("name"), str):
        raise _wrong(path, "graph.name")
    return found


def _wrong(path: Path, name: str) -> UserError:
    return UserError(
        f"{path}: what it says of how it was made has no `{name}`",
        help="the file was changed since; take the original", field="file",
    )  # fmt: skip


def differences(
    then: Mapping[str, object], now: Mapping[str, object]
) -> Iterator[tuple[str, object, object]]:
    """Dotted path, value then and value now of everything that a result may depend on."""
    old, new = dict(_leaves(then)), dict(_leaves(now))
    lists_optional = MARK in old and MARK in new
    for path in dict.fromkeys([*old, *new]):
        one, other = old.get(path), new.get(path)
        if path.startswith("versions.") and (one is None or other is None):
            if not lists_optional:
                continue  # a record of a version that did not look for this package
            one, other = one or NOT_INSTALLED, other or NOT_INSTALLED
        if one != other:
            yield path, one, other


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, child in value.items():
            inside = f"{path}.{key}" if path else str(key)
            if inside not in NAMES_ONLY and not _is_name_of_input(inside, value):
                yield from _leaves(child, inside)
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{path}.{index}")
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _is_name_of_input(path: str, around: Mapping[str, object]) -> bool:
    return path.startswith("request.") and path.endswith(".name") and "digest" in around


def base_name(value: object) -> str:
    """The last part of a path or URL; nothing for what has no name."""
    if not isinstance(value, str) or is_data_url(value):
        return ""
    text = urlsplit(value).path if "://" in value else value
    return PureWindowsPath(text).name if WINDOWS.match(text) else PurePosixPath(text).name


def without_folders(value: object) -> object:
    """A value with base names in place of absolute paths, however deep they are."""
    if isinstance(value, str):
        return base_name(value) if ABSOLUTE.match(value) else value
    if isinstance(value, Mapping):
        return {str(k): without_folders(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [without_folders(v) for v in value]
    return value


def has_folder(value: object) -> bool:
    """Whether an absolute path stands anywhere in a value."""
    return bool(without_folders(value) != (list(value) if isinstance(value, tuple) else value))


def read_record(path: Path) -> str:
    """The text that a media file carries, or that lies beside it; empty where there is none.

    A `.json` file is the text itself. UserError where there is no such file.
    """
    try:
        if not path.is_file():
            reason = "is a folder, not a file" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {reason}", help="give a picture or a clip", field="file")
        with path.open("rb"):  # an unreadable file is not one without provenance
            pass
        if path.suffix.lower() == ".json":
            return _text(path)
        found = "" if path.suffix.lower() == ".npy" else _of_picture(path) or _of_clip(path)
        return found or (_text(sidecar_path(path)) if sidecar_path(path).is_file() else "")
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UserError(
            f"{path} cannot be read: {reason.lower()}",
            help="allow reading it" if isinstance(problem, PermissionError) else "",
            field="file",
        ) from problem


def _of_picture(path: Path) -> str:
    from PIL import Image

    with suppress(*DECODE_ERRORS), Image.open(path, formats=readable_formats()) as image:
        if image.format == "PNG":
            return str(image.info.get(COMMENT_KEY, ""))
        comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
        if isinstance(comment, bytes) and comment.startswith(ASCII):
            return comment.removeprefix(ASCII).decode("ascii", "replace")
    return ""


def _of_clip(path: Path) -> str:
    import av

    if path.suffix.lower() != ".mp4":
        return ""
    with suppress(*DECODE_ERRORS, av.error.FFmpegError), av.open(str(path)) as file:
        return str(file.metadata.get(COMMENT_KEY.lower(), ""))
    return ""


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_RECORD_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
