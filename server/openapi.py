"""The OpenAPI 3.1 document of this server, made from the request fields of the served graph."""

from __future__ import annotations

from typing import Any

from server.response_schemas import SCHEMAS
from server.schemas import (
    FORM_TYPE,
    JSON_TYPE,
    edit_fields,
    image_fields,
    request_schema,
    video_fields,
)
from server.served_model import ServedModel

Operation = dict[str, Any]
IMAGE_MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
BODY_ERRORS = (400, 404, 413, 415, 429, 503, 504, 507)


def document(served: ServedModel, version: str) -> dict[str, Any]:
    """The document. Every operation may also answer 401, 405 and 500."""
    key = served.policies.server.api_key is not None
    security: dict[str, Any] = {"security": [{"key": []}]} if key else {}
    schemes = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"sglang serve: {served.name}", "version": version},
        "paths": _generation_paths(served) | _information_paths(key),
        "components": {"schemas": SCHEMAS, **schemes},
        **security,
    }


def _generation_paths(served: ServedModel) -> dict[str, Any]:
    generate = request_schema(image_fields(served), served)
    edit = request_schema(edit_fields(served), served, form=True)
    clip_bodies = {
        JSON_TYPE: request_schema(video_fields(served), served),
        FORM_TYPE: request_schema(video_fields(served), served, form=True),
    }
    return {
        "/v1/images/generations": {
            "post": _operation("generateImages", "Images", {JSON_TYPE: generate}, BODY_ERRORS)
        },
        "/v1/images/edits": {
            "post": _operation("editImages", "Images", {FORM_TYPE: edit}, BODY_ERRORS)
        },
        "/v1/images/{id}/content": {"parameters": [_id()], "get": _file(
            "imageContent", IMAGE_MEDIA_TYPES, [
                _query("variant", {"type": "string", "pattern": "^[0-9]{1,3}$"}),
            ],
        )},
        "/v1/videos": {
            "post": _operation("createVideo", "Video", clip_bodies, BODY_ERRORS),
            "get": {**_operation("listVideos", "Videos", errors=(400,)), "parameters": [
                _query("after", {"type": "string"}),
                _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
                _query("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}),
            ]},
        },
        "/v1/videos/{id}": {
            "parameters": [_id()],
            "get": _operation("retrieveVideo", "Video", errors=(404,)),
            "delete": _operation("deleteVideo", "VideoDeleted", errors=(404, 503, 507)),
        },
        "/v1/videos/{id}/content": {"parameters": [_id()], "get": _file(
            "videoContent", ("video/mp4", "image/webp", "image/jpeg"), [
                _query("variant", {"type": "string",
                                   "pattern": "^(video|thumbnail|spritesheet|[0-9]{1,3})$"}),
            ],
        )},
    }  # fmt: skip


def _information_paths(key: bool) -> dict[str, Any]:
    model = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths: dict[str, Any] = {
        "/v1/models": {"get": _operation("listModels", "Models")},
        "/v1/models/{id}": {
            "parameters": [model],
            "get": _operation("retrieveModel", "Model", errors=(404,)),
        },
        "/liveness": {"get": _operation("liveness", "Status", open=key)},
        "/health": {"get": _operation("health", "Status", errors=(503,), open=key)},
        "/health_generate": {"get": _operation("ready", "Status", errors=(503,), open=key)},
    }
    for path in ("models", "server_info", "model_info", "v1/model_info", "stats"):
        name = "".join(part.title() for part in path.replace("/", "_").split("_"))
        paths[f"/{path}"] = {"get": _operation(f"get{name}", "Info")}
    return paths


def _operation(
    name: str,
    schema: str,
    bodies: dict[str, Any] | None = None,
    errors: tuple[int, ...] = (),
    *,
    open: bool = False,
) -> Operation:
    """An operation that answers JSON. open: needs no API key."""
    found = {"description": "OK", "content": {JSON_TYPE: {"schema": _ref(schema)}}}
    body: Operation = {}
    if bodies:
        content = {type: {"schema": body} for type, body in bodies.items()}
        body = {"requestBody": {"required": True, "content": content}}
    return {
        "operationId": name,
        **body,
        "responses": {"200": found, **_errors(errors)},
        **({"security": []} if open else {}),
    }


def _file(name: str, types: tuple[str, ...], parameters: list[dict[str, Any]]) -> Operation:
    data = {"schema": {"type": "string", "format": "binary"}}
    content = dict.fromkeys(types, data)
    return {
        "operationId": name,
        "parameters": parameters,
        "responses": {
            "200": {"description": "the whole file", "content": content},
            "206": {"description": "the requested byte range", "content": content},
            "302": {"description": "the file is in the object store"},
            "416": {"description": "the range lies outside the file"},
            **_errors((400, 404, 503)),
        },
    }


def _errors(statuses: tuple[int, ...]) -> dict[str, Any]:
    content = {JSON_TYPE: {"schema": _ref("Error")}}
    every = (*statuses, 401, 405, 500)
    return {
        str(s): {"description": "an error in OpenAI's shape", "content": content}
        for s in sorted(every)
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _id() -> dict[str, Any]:
    return {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}
