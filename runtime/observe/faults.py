"""Why a node failed: whose code it was, with which inputs, and outputs of a wrong type."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path

import torch

from runtime.contract.declare import Declaration, type_name, value_fits
from runtime.contract.values import Rng, tensors
from runtime.errors import NodeFailed, exception_chain
from runtime.graph.catalog import packaged
from runtime.graph.check import Checked
from runtime.graph.source_positions import display_path, locate


def own_code(problem: BaseException, checked: Checked) -> tuple[str, str]:
    """`file:line` of the innermost line in a user's node, and the node whose class it is.

    A denoiser fails inside the node that calls it, so the traceback decides. Empty where the
    traceback has only code of this package and of libraries.
    """
    ours = packaged("nodes")
    classes = [
        (str(known.file), known.line, name)
        for name, known in checked.declarations.items()
        if not known.file.is_relative_to(ours)
    ]
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        line = frame.lineno or 0
        above = [(at, name) for file, at, name in classes if file == frame.filename and at <= line]
        if above:  # the class that begins last before the line is the one that it is in
            place = f"{display_path(Path(frame.filename))}:{line}"
            return place, max(above)[1]
    return "", ""


def check_outputs(known: Declaration, out: object) -> None:
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


def node_failed(
    checked: Checked, node: str, inputs: Mapping[str, object], problem: Exception
) -> NodeFailed:
    """The error for a node that raised: its place in the graph, its inputs, and all causes.

    The frames of the problem are cleared, or its tensors would stay for as long as the error.
    """
    spec = checked.graph.nodes[node]
    position = locate(f"nodes.{node}", checked.graph.sources, checked.graph.edits)
    cause, *causes = map(_headline, exception_chain(problem))
    if isinstance(problem, torch.OutOfMemoryError):
        cause += "; a smaller height, width or num_frames needs less, or placement=cpu"
    described = [f"{port}: {describe_value(value)}" for port, value in inputs.items()]
    place, owner = own_code(problem, checked)
    if owner not in {"", node}:
        kind = checked.graph.nodes[owner].type
        described.insert(0, f"the code is that of node `{owner}` ({kind})")
    traceback.clear_frames(problem.__traceback__)
    return NodeFailed(node, spec.type, str(position), described, cause, causes=causes, place=place)


def describe_value(value: object) -> str:
    """A value in a message: its tensors as shape, dtype and device; never its content."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, int | float | bool | None):
        return repr(value)
    found = [] if isinstance(value, Rng) else tensors(value)
    shapes = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')} {t.device}" for t in found]
    return f"{type(value).__name__} {', '.join(shapes)}".strip()


def _headline(problem: BaseException) -> str:
    return traceback.format_exception_only(problem)[-1].strip()
