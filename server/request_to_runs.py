"""Turn a parsed request into complete runs, one per output file, and check all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from runtime import UserError
from runtime.settings.field import DEFAULT_SEED, Field, plain_number
from server.errors import ApiError, bad_request, from_user_error
from server.input_files import UploadSource
from server.parameter_names import parameter
from server.request_body import RequestBody
from server.schemas import MAX_OUTPUTS, SIZE_PATTERN, upload_field
from server.served_model import FRAMES_FIELD, IMAGE_FIELD, MASK_FIELD, STEPS_FIELD, ServedModel


class UploadedMedia(NamedTuple):
    """A picture or clip of a request. param: the name under which it was sent."""

    param: str
    source: UploadSource


UploadsByField = Mapping[str, Sequence[UploadedMedia]]  # by the field of the graph that they fill
LIMITS = {FRAMES_FIELD: ("max_frames", "frames"), STEPS_FIELD: ("max_steps", "steps")}


def check_model(served: ServedModel, values: Mapping[str, Any]) -> None:
    """Refuse a model that is not the served one."""
    name = values.get("model")
    if name is not None and name not in served.names:
        raise no_model(served, name)


def no_model(served: ServedModel, name: str) -> ApiError:
    """The error for an unknown model."""
    return ApiError(
        404,
        f"the model `{name[:100]}` does not exist; this server has `{served.name}`",
        param="model", code="model_not_found",
    )  # fmt: skip


def build_runs(
    served: ServedModel, values: Mapping[str, Any], uploads: UploadsByField
) -> tuple[Mapping[str, Any], ...]:
    """Complete request values, one run per output.

    values   typed: the graph's fields, and `n`, `size`
    uploads  by field; `with_paths` adds the paths when they are stored
    """
    request = {n: v for n, v in values.items() if n in served.fields}
    request |= sized(served, values)
    for name, items in uploads.items():
        blank = _blank(served.fields[name])
        request[name] = [blank] * len(items) if served.fields[name].many else blank
    seed = served.seed
    runs = []
    for value in _seeds(served, values):
        one = request | ({seed.name: value} if seed is not None else {})
        try:
            runs.append(served.runtime.validate(**one))
        except UserError as problem:
            name = parameter(problem.field) or ""
            if name in served.upload_fields and name not in uploads:
                code, what = "missing_required_parameter", _what(served, name)
                message = f"this model needs a {what}; send one as `{name}`"
                raise bad_request(message, name, code) from None
            raise from_user_error(problem, _param(problem, values)) from None
    _within_limits(served, runs[0], values)
    return tuple(runs)


def with_paths(
    served: ServedModel, runs: Sequence[Mapping[str, Any]], paths: Mapping[str, Sequence[Path]]
) -> tuple[Mapping[str, Any], ...]:
    """The runs with the paths of stored uploads, by request field."""
    paths_by_field = {
        name: [str(p) for p in found] if served.fields[name].many else str(found[0])
        for name, found in paths.items()
    }
    return tuple({**run, **paths_by_field} for run in runs)


def sized(served: ServedModel, values: Mapping[str, Any]) -> dict[str, int]:
    """`width` and `height` of `size`; empty where it is `auto`."""
    size = values.get("size", "auto")
    if not re.fullmatch(SIZE_PATTERN, size):
        raise bad_request(f'`size` expects WIDTHxHEIGHT or auto, got "{size[:60]}"', "size")
    if size in {"", "auto"}:
        return {}
    made = {}
    for name, number in zip(("width", "height"), map(int, size.split("x")), strict=True):
        field = served.fields.get(name)
        if field is None:
            raise bad_request("this model makes one size only; leave `size` out", "size")
        if values.get(name, number) != number:
            raise bad_request(f"`size` is {size}, but `{name}` is {values[name]}", "size")
        try:
            made[name] = field.parse(number, f"`size`: {name}")
        except UserError as problem:
            raise from_user_error(problem, "size") from None
    return made


def output_count(values: Mapping[str, Any]) -> int | None:
    """The number of outputs, where the request gives it."""
    n, other = values.get("n"), values.get("num_outputs_per_prompt")
    if n is not None and other is not None and n != other:
        raise bad_request(f"`n` is {n}, but `num_outputs_per_prompt` is {other}", "n")
    return n if n is not None else other


def _seeds(served: ServedModel, values: Mapping[str, Any]) -> Sequence[int | None]:
    """One seed per output: as listed, or one seed and its successors."""
    n, field = output_count(values), served.seed
    if field is None:
        return [None] * (n or 1)
    given: Sequence[int] = values.get(field.name) or ()
    if len(given) > 1:
        if len(given) != (n or len(given)):
            raise bad_request(f"`{field.name}` has {len(given)} seeds for {n} outputs", field.name)
        if len(given) > MAX_OUTPUTS:
            raise bad_request(
                f"`{field.name}` has {len(given)} seeds; {MAX_OUTPUTS} are the most", "seed"
            )
        return given
    configured = served.runtime.request.get(field.name) or ()
    fallback = DEFAULT_SEED if field.default is None else int(field.default)
    first = (*given, *configured, fallback)[0]
    seeds = [first + i for i in range(n or 1)]
    if seeds[-1] >= 2**63:
        raise bad_request(f"`{field.name}` leaves no room for {n} seeds below 2^63", field.name)
    return seeds


def _param(problem: UserError, values: Mapping[str, Any]) -> str | None:
    """The parameter as the client wrote it."""
    name = parameter(problem.field)
    return "size" if name in {"width", "height"} and name not in values else name


def _within_limits(served: ServedModel, run: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """The server's limits, which also hold for a graph's defaults."""
    policy = served.policies.server
    # A size that the picture decides has at most the area of the defaults.
    defaults = {side: field.default for side, field in served.fields.items() if field.shape_of}
    width, height = (run.get(side) or defaults.get(side) or 0 for side in ("width", "height"))
    pixels = width * height
    if pixels > policy.max_pixels:
        size = f"{width}x{height}"
        raise bad_request(
            f"{size} is {pixels} pixels; this server makes at most {policy.max_pixels}",
            "width" if "width" in values else "size",
        )
    for name, (limit, unit) in LIMITS.items():
        most = getattr(policy, limit)
        if (run.get(name) or 0) > most:
            raise bad_request(
                f"`{name}` is {run[name]}; this server allows at most {most} {unit}", name
            )


def sources(served: ServedModel, given: RequestBody) -> UploadsByField:
    """The uploads of a request by the field that they fill; an ApiError where the graph has no such
    field, or takes fewer."""
    found: dict[str, list[UploadedMedia]] = {}
    for name, items in given.files.items():
        field = upload_field(served, name)
        if items and field not in served.fields:
            raise bad_request(_takes_none(served, field), name, "unsupported_parameter")
        for item in items:
            found.setdefault(field, []).append(UploadedMedia(name, item))
    for field, uploads in found.items():
        if len(uploads) > 1 and not served.fields[field].many:
            raise bad_request(
                f"this model takes one {_what(served, field)}, got {len(uploads)}",
                uploads[1].param,
            )
    return found


def _what(served: ServedModel, field: str) -> str:
    if field in served.clip_fields:
        return "clip"
    return "mask" if field == MASK_FIELD else "picture"


def _takes_none(served: ServedModel, field: str) -> str:
    """Why an upload is refused, and what the model takes instead."""
    if field == MASK_FIELD:
        return "this model takes no mask"
    what = "picture" if field == IMAGE_FIELD else "clip"
    if served.upload_fields:
        known = ", ".join(f"`{name}`" for name in served.upload_fields)
        return f"this model takes no {what}; it takes {known}"
    return f"this model takes no {what}: it draws from text alone"


def _blank(field: Field) -> Any:
    """A stand-in for an upload that is checked and stored later."""
    if field.type == "video":
        return np.zeros((1, 1, 1, 3), np.uint8)
    return Image.new("RGB", (1, 1))


def fitting_frames(field: Field, wanted: float) -> int:
    """The number of frames nearest to `wanted` that a field takes."""
    step, low = field.multiple or 1, max(field.min or 1, 1)
    frames = field.offset + round((wanted - field.offset) / step) * step
    while frames < low:
        frames += step
    while field.max is not None and frames > field.max:
        frames -= step
    return int(frames)


def seconds_text(seconds: float) -> str:
    """A length as OpenAI writes it: "4", and where it is not whole, "1.06"."""
    return plain_number(round(seconds, 2))
