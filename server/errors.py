"""Every error in OpenAI's shape: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from runtime import UserError, did_you_mean
from runtime.files.object_store import UploadFailed
from server.parameter_names import message_of, parameter
from server.service import Draining, QueueFull


class ApiError(Exception):
    """An error response.

    param  the field, query parameter or header at fault
    code   a short word that programs can compare
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})


class JsonResponse(Response):
    """A response in JSON. Lone surrogates, which UTF-8 cannot encode, become question marks."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode, without NaN."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A 400: the request is wrong."""
    return ApiError(400, message, param=param, code=code)


def shutting_down() -> ApiError:
    """A 503: the server stops, and another or a later one may take the request."""
    headers = {"Retry-After": "5"}
    return ApiError(503, "the server is stopping", code="shutting_down", headers=headers)


def not_found(message: str, code: str = "not_found", param: str | None = None) -> ApiError:
    """A 404."""
    return ApiError(404, message, param=param, code=code)


def from_user_error(problem: UserError, param: str | None = None) -> ApiError:
    """A 400 for an error of the runtime; its help becomes part of the message."""
    return bad_request(message_of(problem), param or parameter(problem.field))


def error_response(error: ApiError, request_id: str | None = None) -> JsonResponse:
    """The response for an error; the message of a 5xx ends with the request's id."""
    body = error_body(error)
    if error.status >= 500 and request_id:
        body["message"] = f"{error.message} (request {request_id})"
    return JsonResponse({"error": body}, error.status, headers=error.headers)


def error_body(error: ApiError) -> dict[str, str | None]:
    """The `error` object of OpenAI's API."""
    return {
        "message": error.message,
        "type": _type(error.status),
        "param": error.param,
        "code": error.code,
    }


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return "rate_limit_error" if status == 429 else "invalid_request_error"


async def _api_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiError)
    return error_response(problem, request.scope.get("request_id"))


async def _user_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, UserError)
    return error_response(from_user_error(problem))


async def _queue_full(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, QueueFull)
    return error_response(
        ApiError(
            429,
            f"the queue is full; try again in {problem.retry_after} s",
            code="queue_full", headers={"Retry-After": str(problem.retry_after)},
        )
    )  # fmt: skip


async def _draining(request: Request, problem: Exception) -> Response:
    return error_response(shutting_down())


async def _store_failed(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, UploadFailed)
    return error_response(
        ApiError(503, f"the file is in the object store: {problem.reason}",
                 code="object_store_failed")
    )  # fmt: skip


async def _client_disconnected(request: Request, problem: Exception) -> Response:
    return error_response(
        ApiError(499, "the client closed the connection", code="client_closed_request")
    )


async def _http_error(request: Request, problem: Exception) -> Response:
    """Errors of Starlette: an unknown path, or a method that the path does not have."""
    assert isinstance(problem, HTTPException)
    status, path = problem.status_code, request.url.path
    message = {
        404: f"`{path[:200]}` is not served here{_similar_path(request)}",
        405: f"`{path[:200]}` does not take {request.method}",
    }.get(status, problem.detail)
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    headers = {"Allow": _methods(request)} if status == 405 else problem.headers
    return error_response(ApiError(status, message, code=code, headers=headers))


def _similar_path(request: Request) -> str:
    """The served path that an unknown one most likely means, as the end of a message."""
    path = request.url.path
    fixed = "/" + re.sub(r"/{2,}", "/", path).strip("/")
    for candidate in (fixed, f"/v1{fixed}", fixed.removeprefix("/v1")):
        scope = {**request.scope, "path": candidate, "raw_path": candidate.encode()}
        full = (route.matches(scope)[0] is Match.FULL for route in request.app.routes)
        if candidate not in {path, "/", ""} and any(full):
            return f"; did you mean `{candidate}`?"
    known = [r.path for r in request.app.routes if isinstance(r, Route) and "{" not in r.path]
    near = did_you_mean(fixed, known) if len(fixed) < 100 else ""
    return f"; {near}" if near else ""


def _methods(request: Request) -> str:
    """The methods that the routes of this path take."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return ", ".join(sorted(found))


HANDLERS = {
    ApiError: _api_error,
    UserError: _user_error,
    QueueFull: _queue_full,
    Draining: _draining,
    UploadFailed: _store_failed,
    ClientDisconnect: _client_disconnected,
    HTTPException: _http_error,
}
