"""Whose code failed: the file and line of a user's node, and outputs of a wrong type."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.contract.declare import Declaration, type_name, value_fits
from runtime.graph.catalog import packaged
from runtime.graph.check import Checked
from runtime.graph.source_positions import display_path


def own_code(problem: BaseException, checked: Checked) -> tuple[str, str]:
    """`file:line` of the innermost line in a user's node, and the node whose class it is.

    A denoiser fails inside the node that drives it: the traceback knows whose code it was. Empty
    where only code of this package and of libraries took part.
    """
    ours = packaged("nodes")
    files: Mapping[str, str] = {
        str(known.file): name
        for name, known in reversed([*checked.declarations.items()])
        if not known.file.is_relative_to(ours)
    }
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if frame.filename in files:
            place = f"{display_path(Path(frame.filename))}:{frame.lineno}"
            return place, files[frame.filename]
    return "", ""


def check_outputs(known: Declaration, out: Any) -> None:
    """Raise TypeError for an output that is not of the type that the node declares."""
    if not isinstance(out, known.cls.Out):
        raise TypeError(f"{known.type} returned {type(out).__name__}, not its Out")
    for port in known.outputs.values():
        value = getattr(out, port.name)
        if not value_fits(port.type, value):
            raise TypeError(
                f"{known.type} returned {type(value).__name__} as `{port.name}`, which its Out "
                f"declares as {type_name(port.type)}"
            )
