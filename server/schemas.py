"""The fields of requests: OpenAI's and those of the served graph, and their JSON Schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.settings.field import Field
from runtime.settings.policies import PRESET_CHOICES, QUALITY_CHOICES
from server.served_model import CLIP_FIELD, FILES, IMAGE_FIELD, MASK_FIELD, ServedModel

JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data"
MAX_OUTPUTS = 10  # OpenAI's
MAX_PROMPT = 32_000  # characters; OpenAI's
MAX_NUMBER = 400  # digits of a number in a form: longer ones are slow to parse
SIZE_PATTERN = "(auto|[1-9][0-9]{0,5}x[1-9][0-9]{0,5})?"
SECONDS = r"[0-9]{1,6}(\.[0-9]{1,3})?"

# `quality` chooses how files are encoded, and where it asks for less, how many of the graph's own
# steps are taken. More steps than the graph's own are never taken unless they are asked for.
STEPS_BY_QUALITY = {"low": 0.5, "medium": 0.75}
ENCODING_BY_QUALITY = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "hd": "high",
    "xhigh": "maximum",
    "max": "maximum",
    "auto": "default",
    "standard": "default",
}
SUFFIX_BY_FORMAT = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}

# Fields of OpenAI's SDK that have no meaning here: accepted with any value.
UNUSED_IMAGE = (
    *("complexity", "frame_count", "frame_duration_ms", "input_fidelity", "markup", "moderation"),
    *("prompt_rewriter", "safety_identifier", "style", "svg", "user"),
)
UNUSED_VIDEO = ("user",)

# OpenAI's names of uploads; the fields of the graph can be sent by their own names, too.
EDIT_FILES = ("image", "url", "mask")
VIDEO_FILES = ("input_reference", "reference_url", "video_reference", "video_url")
CLIP_NAMES = ("video_reference", "video_url")


def upload_field(served: ServedModel, name: str) -> str:
    """The field of the graph that an upload fills, which the graph may lack."""
    if name in served.fields:
        return name
    if name == "mask":
        return MASK_FIELD
    clip = next(iter(served.clip_fields), CLIP_FIELD)
    takes_clips_only = served.clip_fields and IMAGE_FIELD not in served.fields
    return clip if name in CLIP_NAMES or takes_clips_only else IMAGE_FIELD


@dataclasses.dataclass(frozen=True)
class Accepts:
    """The fields of one operation.

    fields   by name; the graph's own among them
    files    names of images and clips: uploads, or URLs
    required   which of them must be given
    unused   accepted and ignored
    takes_uploads  whether the graph takes images or clips
    """

    fields: Mapping[str, Field]
    files: tuple[str, ...] = ()
    required: tuple[str, ...] = ("prompt",)
    unused: tuple[str, ...] = ()
    takes_uploads: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All field names."""
        return (*self.fields, *self.files, *self.unused)


def _by_name(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


SHARED_FIELDS = _by_name(
    Field("prompt", help="a text that describes what to generate"),
    Field("model", help="the served model's name; nothing else is accepted"),
    Field("n", "int", default=1, min=1, max=MAX_OUTPUTS, help="number of outputs"),
    Field("num_outputs_per_prompt", "int", min=1, max=MAX_OUTPUTS, help="another name of `n`"),
    Field("size", help="WIDTHxHEIGHT, or `auto` for the default of the graph"),
    Field(
        "output_compression",
        "int",
        min=0,
        max=100,
        help="encoder quality: 0 is the smallest file, 100 the best",
    ),
    Field(
        "output_quality", "choice", choices=QUALITY_CHOICES, help="quality of the encoder, by name"
    ),
)
IMAGE_FIELDS = SHARED_FIELDS | _by_name(
    Field("quality", "choice", choices=tuple(ENCODING_BY_QUALITY),
          help="quality of the encoder; `low` takes half of the default steps, `medium` 3/4"),
    Field("background", "choice", choices=("auto", "opaque", "transparent"),
          help="`transparent` is refused: images are opaque"),
    Field("response_format", "choice", choices=("url", "b64_json"), help="unset: both"),
    Field("output_format", "choice", default="png", choices=tuple(SUFFIX_BY_FORMAT)),
    Field("stream", "bool", help="only false: images are not streamed"),
    Field("partial_images", "int", min=0, help="only 0: there are no partial images"),
)  # fmt: skip
VIDEO_FIELDS = SHARED_FIELDS | _by_name(
    Field(
        "seconds",
        help="length; `num_frames` is computed from it, within the limits of the graph",
    ),
    Field("x264_preset", "choice", choices=PRESET_CHOICES, help="speed of the H.264 encoder"),
)


def image_fields(served: ServedModel) -> Accepts:
    """What `POST /v1/images/generations` takes."""
    return Accepts(
        IMAGE_FIELDS | _graph_fields(served),
        served.upload_fields,
        unused=_unused(served, UNUSED_IMAGE),
        takes_uploads=bool(served.upload_fields),
    )


def edit_fields(served: ServedModel) -> Accepts:
    """What `POST /v1/images/edits` takes; `image[]` and `url[]` are read as lists."""
    files = (*EDIT_FILES, *served.upload_fields)
    return Accepts(
        IMAGE_FIELDS | _graph_fields(served),
        files,
        unused=_unused(served, UNUSED_IMAGE),
        takes_uploads=bool(served.upload_fields),
    )


def video_fields(served: ServedModel) -> Accepts:
    """What `POST /v1/videos` takes."""
    files = (*VIDEO_FILES, *served.upload_fields)
    return Accepts(
        VIDEO_FIELDS | _graph_fields(served),
        files,
        unused=_unused(served, UNUSED_VIDEO),
        takes_uploads=bool(served.upload_fields),
    )


def _graph_fields(served: ServedModel) -> dict[str, Field]:
    """The fields of the graph by name, without those whose values are paths on the server."""
    return {n: f for n, f in served.fields.items() if f.type not in FILES}


def _unused(served: ServedModel, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in served.fields)


def request_schema(accepts: Accepts, served: ServedModel, *, form: bool = False) -> dict[str, Any]:
    """The JSON Schema of a body. form: multipart, where nothing is null and files are bytes."""
    properties = {
        name: _property(field, served, nullable=not form and name not in accepts.required)
        for name, field in accepts.fields.items()
    }
    picture = {"type": "string", "format": "binary"} if form else _url_schema()
    ignored = {"description": "accepted and ignored"}
    properties |= dict.fromkeys(accepts.files, picture)
    properties |= dict.fromkeys(accepts.unused, ignored)
    return {
        "type": "object",
        "properties": properties,
        "required": list(accepts.required),
        "additionalProperties": False,
    }


def _url_schema() -> dict[str, Any]:
    url = {"type": "string", "description": "an http, https or data URL of an image or a video"}
    members = {"image_url": {"type": "string"}, "file_id": {"type": ["string", "null"]}}
    wrapped = {"type": "object", "properties": members, "additionalProperties": False}
    return {"anyOf": [url, wrapped, {"type": "null"}]}


def _property(field: Field, served: ServedModel, *, nullable: bool) -> dict[str, Any]:
    one = dict(_scalar(field)) | _wording(field)
    if field.type == "seed":
        many = {"type": "array", "items": dict(one), "minItems": 1, "maxItems": MAX_OUTPUTS}
        one = {"anyOf": [one, many]}
    elif field.name == "seconds":
        one = {"anyOf": [one, {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}]}
    elif field.many:
        one = {"anyOf": [one, {"type": "array", "items": dict(one)}]}
    text = _description(field)
    description = {"description": text} if text else {}
    default = {} if field.default is None else {"default": field.default}
    if nullable:
        return {"anyOf": [*one.get("anyOf", [one]), {"type": "null"}], **description, **default}
    return {**one, **description, **default}


def _scalar(field: Field) -> Iterator[tuple[str, Any]]:
    kinds = {"int": "integer", "seed": "integer", "float": "number", "bool": "boolean"}
    yield "type", {**kinds, "map": "object"}.get(field.type, "string")
    if field.choices:
        yield "enum", list(field.choices)
    if field.type == "seed":
        yield "minimum", 0
        yield "maximum", 2**63 - 1
    if field.min is not None:
        yield "minimum", field.min
    if field.max is not None:
        yield "maximum", field.max
    if field.multiple and not field.offset:
        yield "multipleOf", field.multiple


def _wording(field: Field) -> dict[str, Any]:
    if field.name == "prompt":
        return {"minLength": 1, "maxLength": MAX_PROMPT}
    if field.type == "text" and field.name not in {"size", "seconds"}:
        return {"maxLength": MAX_PROMPT}
    patterns = {"size": SIZE_PATTERN, "seconds": SECONDS}
    return {"pattern": f"^({patterns[field.name]})$"} if field.name in patterns else {}


def _description(field: Field) -> str:
    rule = f"a multiple of {field.multiple} plus {field.offset}" if field.offset else ""
    return "; ".join(part for part in (field.help, field.unit, rule) if part)
