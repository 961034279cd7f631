"""JSON Schemas of responses."""

from __future__ import annotations

from typing import Any

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
INTEGER: JsonSchema = {"type": "integer"}
FLOAT: JsonSchema = {"type": "number"}


def _or_null(schema: JsonSchema) -> JsonSchema:
    return {**schema, "type": [schema["type"], "null"]}


def _object(required: JsonSchema, optional: JsonSchema | None = None) -> JsonSchema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def _list(schema: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": schema}


def _ref(name: str) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{name}"}


ERROR_SCHEMA = _object(
    {"message": STRING, "type": STRING, "param": _or_null(STRING), "code": _or_null(STRING)}
)
IMAGE_SCHEMA = _object(
    {"b64_json": _or_null(STRING), "url": _or_null(STRING), "revised_prompt": _or_null(STRING)},
    {"file_path": STRING, "resize": {}, "seed": _or_null(INTEGER)},
)
USAGE_SCHEMA = _object(
    {"input_tokens": INTEGER, "output_tokens": INTEGER, "total_tokens": INTEGER},
    {
        "input_tokens_details": _object({"text_tokens": INTEGER, "image_tokens": INTEGER}),
        "output_tokens_details": _object({"text_tokens": INTEGER, "image_tokens": INTEGER}),
        "prompt_tokens": INTEGER,
        "completion_tokens": INTEGER,
        "prompt_tokens_details": _object({"cached_tokens": INTEGER}),
        "reasoning_tokens": INTEGER,
        "image_count": INTEGER,
    },
)
IMAGES_SCHEMA = _object(
    {"id": STRING, "created": INTEGER, "data": _list(_ref("Image")), "usage": _ref("Usage")},
    {
        "background": STRING,
        "output_format": STRING,
        "quality": STRING,
        "size": _or_null(STRING),
        "seeds": _list(_or_null(INTEGER)),
        "warnings": _list(STRING),
        "peak_memory_mb": _or_null(FLOAT),
        "inference_time_s": _or_null(FLOAT),
    },
)
VIDEO_SCHEMA = _object(
    {
        "id": STRING,
        "object": {"const": "video"},
        "model": STRING,
        "status": {"enum": ["queued", "in_progress", "completed", "failed"]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created_at": INTEGER,
        "size": STRING,
        "seconds": STRING,
    },
    {
        "completed_at": _or_null(INTEGER),
        "expires_at": _or_null(INTEGER),
        "prompt": _or_null(STRING),
        "fps": FLOAT,
        "num_frames": _or_null(INTEGER),
        "quality": STRING,
        "remixed_from_video_id": _or_null(STRING),
        "error": {"anyOf": [_object({"code": STRING, "message": STRING}), {"type": "null"}]},
        "url": _or_null(STRING),
        "urls": _list(STRING),
        "file_path": _or_null(STRING),
        "file_paths": _list(STRING),
        "num_outputs": INTEGER,
        "peak_memory_mb": _or_null(FLOAT),
        "inference_time_s": _or_null(FLOAT),
        "revised_prompt": _or_null(STRING),
        "seeds": _list(_or_null(INTEGER)),
        "warnings": _list(STRING),
    },
)
VIDEOS_SCHEMA = _object(
    {
        "object": {"const": "list"},
        "data": _list(_ref("Video")),
        "first_id": _or_null(STRING),
        "last_id": _or_null(STRING),
        "has_more": {"type": "boolean"},
    }
)
DELETED_SCHEMA = _object(
    {"id": STRING, "deleted": {"const": True}, "object": {"const": "video.deleted"}}
)
MODEL_SCHEMA = _object(
    {"id": STRING, "object": {"const": "model"}, "created": INTEGER, "owned_by": STRING}
)

SCHEMAS: dict[str, JsonSchema] = {
    "Error": _object({"error": ERROR_SCHEMA}),
    "Image": IMAGE_SCHEMA,
    "Usage": USAGE_SCHEMA,
    "Images": IMAGES_SCHEMA,
    "Video": VIDEO_SCHEMA,
    "Videos": VIDEOS_SCHEMA,
    "VideoDeleted": DELETED_SCHEMA,
    "Model": MODEL_SCHEMA,
    "Models": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Status": _object({"status": {"const": "ok"}}),
    "Info": {"type": "object"},
}
