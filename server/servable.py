"""Whether a graph can be served at all: checked before the server listens. Imports no torch."""

from __future__ import annotations

from runtime import Runtime, UserError
from runtime.settings.field import Field
from server.served_model import FILES, ServedModel


def check_servable(served: ServedModel) -> None:
    """Refuse a graph for which no request could ever succeed; the UserError has the reason."""
    runtime, graph = served.runtime, served.runtime.graph.name
    required_outputs(runtime)
    if not served.pictures and not served.clips:
        raise UserError(
            f"graph `{graph}` makes neither images nor videos that a server could send",
            help="add an output `image` or `video`, or run it with `sglang generate`",
            field="graph",
        )
    for field in served.fields.values():
        if field.required and field.name not in runtime.request:
            _check_required(served, field, graph)
        _check_limits(served, field, graph)


def _check_required(served: ServedModel, field: Field, graph: str) -> None:
    if field.type in FILES and field.name not in served.upload_fields:
        raise UserError(
            f"graph `{graph}` needs `request.{field.name}`, the path of a file on this machine, "
            "which clients cannot give",
            help=f"give it for all requests: request.{field.name}=FILE",
            field=f"request.{field.name}",
        )  # fmt: skip


def _check_limits(served: ServedModel, field: Field, graph: str) -> None:
    """Refuse limits of the server below the least that the graph makes."""
    if field.min is not None and field.max is not None and field.min > field.max:
        raise UserError(
            f"graph `{graph}` makes at least {field.min:g} for `request.{field.name}`, and this "
            f"server allows at most {field.max:g}",
            help="raise `server.max_frames` or `server.max_steps`", field=f"request.{field.name}",
        )  # fmt: skip
    if field.name == "height" and "width" in served.fields:
        width, most = served.fields["width"], served.policies.server.max_pixels
        least = (field.min or 1) * (width.min or 1)
        if least > most:
            raise UserError(
                f"graph `{graph}` makes at least {least:g} pixels, and this server allows at most "
                f"{most}",
                help="raise `server.max_pixels`", field="server.max_pixels",
            )  # fmt: skip


def required_outputs(runtime: Runtime) -> tuple[str, ...]:
    """Outputs of the graph that every run computes; raises UserError where one is missing."""
    wanted = ("file",) + ("url",) * (runtime.config.policies.storage.type != "none")
    for name in wanted:
        if name not in runtime.graph.outputs:
            raise UserError(
                f"graph `{runtime.graph.name}` has no output `{name}`, which the server needs",
                help="add the output to the graph, or leave out the object store"
                if name == "url" else "add it to the graph: outputs: {file: save.file}",
                field=f"outputs.{name}",
            )  # fmt: skip
    return wanted
