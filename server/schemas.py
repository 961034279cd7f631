"""What requests may say: OpenAI's fields and the served graph's, and both as JSON Schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.settings.field import Field
from runtime.settings.policies import PRESETS, QUALITIES
from server.served_model import FILES, MASK, PICTURE, Served

MAX_OUTPUTS = 10  # OpenAI's
MAX_PROMPT = 32_000  # characters; OpenAI's
MAX_NUMBER = 400  # digits of a number written as text: more take long to read
SIZE = "(auto|[1-9][0-9]{0,5}x[1-9][0-9]{0,5})?"
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
FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}

# Fields that OpenAI's SDK defines, and that mean nothing here: accepted whatever they hold.
UNUSED_IMAGE = (
    *("complexity", "frame_count", "frame_duration_ms", "input_fidelity", "markup", "moderation"),
    *("prompt_rewriter", "safety_identifier", "style", "svg", "user"),
)
UNUSED_VIDEO = ("user",)

# What OpenAI calls the pictures of a request; the graph's own fields go by their own names.
EDIT_FILES = ("image", "url", "mask")
VIDEO_FILES = ("input_reference", "reference_url")
FIELD_OF = {**dict.fromkeys((*EDIT_FILES, *VIDEO_FILES), PICTURE), "mask": MASK}


@dataclasses.dataclass(frozen=True)
class Accepts:
    """What one operation takes.

    fields   by name; the graph's own among them
    files    names of pictures: uploads, or URLs
    needed   which of them must be given
    unused   accepted and ignored
    """

    fields: Mapping[str, Field]
    files: tuple[str, ...] = ()
    needed: tuple[str, ...] = ("prompt",)
    unused: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that may be said."""
        return (*self.fields, *self.files, *self.unused)


def _own(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


SHARED = _own(
    Field("prompt", help="what to draw"),
    Field("model", help="the served model's name; nothing else is accepted"),
    Field("n", "int", default=1, min=1, max=MAX_OUTPUTS, help="how many outputs"),
    Field("num_outputs_per_prompt", "int", min=1, max=MAX_OUTPUTS, help="another name of `n`"),
    Field("size", help="WIDTHxHEIGHT, or `auto`: the graph's own"),
    Field("output_compression", "int", min=0, max=100, help="100 is the best, 0 the smallest"),
    Field("output_quality", "choice", choices=QUALITIES, help="of the encoder"),
)
IMAGE = SHARED | _own(
    Field("quality", "choice", choices=tuple(ENCODING_BY_QUALITY),
          help="of the encoder; low takes half of the graph's steps, medium three quarters"),
    Field("background", "choice", choices=("auto", "opaque", "transparent"),
          help="pictures are opaque: `transparent` is refused"),
    Field("response_format", "choice", choices=("url", "b64_json"), help="unset: both"),
    Field("output_format", "choice", default="png", choices=tuple(FORMATS)),
    Field("stream", "bool", help="only false: answers come whole"),
    Field("partial_images", "int", min=0, help="only 0: answers come whole"),
)  # fmt: skip
VIDEO = SHARED | _own(
    Field("seconds", help="length; frames follow from the rate, as far as the graph goes"),
    Field("x264_preset", "choice", choices=PRESETS, help="speed of the encoder"),
)


def image_fields(served: Served) -> Accepts:
    """What `POST /v1/images/generations` takes."""
    return Accepts(
        IMAGE | _graph(served), served.image_fields, unused=_unused(served, UNUSED_IMAGE)
    )


def edit_fields(served: Served) -> Accepts:
    """What `POST /v1/images/edits` takes; `image[]` and `url[]` are read as lists."""
    files = (*EDIT_FILES, *served.image_fields)
    return Accepts(IMAGE | _graph(served), files, unused=_unused(served, UNUSED_IMAGE))


def video_fields(served: Served) -> Accepts:
    """What `POST /v1/videos` takes."""
    files = (*VIDEO_FILES, *served.image_fields)
    return Accepts(VIDEO | _graph(served), files, unused=_unused(served, UNUSED_VIDEO))


def _graph(served: Served) -> dict[str, Field]:
    """The graph's fields by name, without those that would name files of the server."""
    return {n: f for n, f in served.fields.items() if f.type not in FILES}


def _unused(served: Served, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in served.fields)


def request_schema(accepts: Accepts, served: Served, *, form: bool = False) -> dict[str, Any]:
    """The JSON Schema of a body. form: multipart, where nothing is null and files are bytes."""
    properties = {
        name: _property(field, served, nullable=not form and name not in accepts.needed)
        for name, field in accepts.fields.items()
    }
    picture = {"type": "string", "format": "binary"} if form else _url_schema()
    ignored = {"description": "accepted and ignored"}
    properties |= dict.fromkeys(accepts.files, picture)
    properties |= dict.fromkeys(accepts.unused, ignored)
    return {
        "type": "object",
        "properties": properties,
        "required": list(accepts.needed),
        "additionalProperties": False,
    }


def _url_schema() -> dict[str, Any]:
    url = {"type": "string", "description": "an http, https or data URL of a picture"}
    members = {"image_url": {"type": "string"}, "file_id": {"type": ["string", "null"]}}
    wrapped = {"type": "object", "properties": members, "additionalProperties": False}
    return {"anyOf": [url, wrapped, {"type": "null"}]}


def _property(field: Field, served: Served, *, nullable: bool) -> dict[str, Any]:
    one = dict(_scalar(field)) | _wording(field)
    if field.type == "seed":
        many = {"type": "array", "items": dict(one), "minItems": 1, "maxItems": MAX_OUTPUTS}
        one = {"anyOf": [one, many]}
    elif field.name == "seconds":
        one = {"anyOf": [one, {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}]}
    elif field.many:
        one = {"anyOf": [one, {"type": "array", "items": dict(one)}]}
    shown = {"description": said} if (said := _description(field)) else {}
    default = {} if field.default is None else {"default": field.default}
    if nullable:
        return {"anyOf": [*one.get("anyOf", [one]), {"type": "null"}], **shown, **default}
    return {**one, **shown, **default}


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
    patterns = {"size": SIZE, "seconds": SECONDS}
    return {"pattern": f"^({patterns[field.name]})$"} if field.name in patterns else {}


def _description(field: Field) -> str:
    rule = f"a multiple of {field.multiple} plus {field.offset}" if field.offset else ""
    return "; ".join(part for part in (field.help, field.unit, rule) if part)
