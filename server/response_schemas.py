"""JSON Schemas of answers."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


ERROR = _object({"message": TEXT, "type": TEXT, "param": _or_null(TEXT), "code": _or_null(TEXT)})
IMAGE = _object(
    {"b64_json": _or_null(TEXT), "url": _or_null(TEXT), "revised_prompt": _or_null(TEXT)},
    {"file_path": TEXT, "resize": {}},
)
USAGE = _object(
    {"input_tokens": WHOLE, "output_tokens": WHOLE, "total_tokens": WHOLE},
    {
        "input_tokens_details": _object({"text_tokens": WHOLE, "image_tokens": WHOLE}),
        "output_tokens_details": _object({"text_tokens": WHOLE, "image_tokens": WHOLE}),
        "prompt_tokens": WHOLE,
        "completion_tokens": WHOLE,
        "prompt_tokens_details": _object({"cached_tokens": WHOLE}),
        "reasoning_tokens": WHOLE,
        "image_count": WHOLE,
    },
)
IMAGES = _object(
    {"id": TEXT, "created": WHOLE, "data": _list(_ref("Image")), "usage": _ref("Usage")},
    {
        "background": TEXT,
        "output_format": TEXT,
        "quality": TEXT,
        "size": _or_null(TEXT),
        "peak_memory_mb": _or_null(NUMBER),
        "inference_time_s": _or_null(NUMBER),
    },
)
VIDEO = _object(
    {
        "id": TEXT,
        "object": {"const": "video"},
        "model": TEXT,
        "status": {"enum": ["queued", "in_progress", "completed", "failed"]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created_at": WHOLE,
        "size": TEXT,
        "seconds": TEXT,
    },
    {
        "completed_at": _or_null(WHOLE),
        "expires_at": _or_null(WHOLE),
        "prompt": _or_null(TEXT),
        "fps": NUMBER,
        "num_frames": _or_null(WHOLE),
        "quality": TEXT,
        "remixed_from_video_id": _or_null(TEXT),
        "error": {"anyOf": [_object({"code": TEXT, "message": TEXT}), {"type": "null"}]},
        "url": _or_null(TEXT),
        "urls": _list(TEXT),
        "file_path": _or_null(TEXT),
        "file_paths": _list(TEXT),
        "num_outputs": WHOLE,
        "peak_memory_mb": _or_null(NUMBER),
        "inference_time_s": _or_null(NUMBER),
        "revised_prompt": _or_null(TEXT),
    },
)
VIDEOS = _object(
    {
        "object": {"const": "list"},
        "data": _list(_ref("Video")),
        "first_id": _or_null(TEXT),
        "last_id": _or_null(TEXT),
        "has_more": {"type": "boolean"},
    }
)
DELETED = _object({"id": TEXT, "deleted": {"const": True}, "object": {"const": "video.deleted"}})
MODEL = _object({"id": TEXT, "object": {"const": "model"}, "created": WHOLE, "owned_by": TEXT})

SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": ERROR}),
    "Image": IMAGE,
    "Usage": USAGE,
    "Images": IMAGES,
    "Video": VIDEO,
    "Videos": VIDEOS,
    "VideoDeleted": DELETED,
    "Model": MODEL,
    "Models": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Status": _object({"status": {"const": "ok"}}),
    "Info": {"type": "object"},
}
