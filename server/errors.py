"""Errors in OpenAI's shape: `{"error": {message, type, param, code}}`, whatever went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from runtime import UserError
from server.service import Draining, QueueFull


class ApiError(Exception):
    """An answer that is an error.

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


class Json(Response):
    """An answer in JSON. Lone surrogates, which no encoding has, become question marks."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode, without NaN."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A 400: what the client sent is wrong."""
    return ApiError(400, message, param=param, code=code)


def not_found(message: str, code: str = "not_found", param: str | None = None) -> ApiError:
    """A 404."""
    return ApiError(404, message, param=param, code=code)


def said_by(problem: UserError, param: str | None = None) -> ApiError:
    """A 400 from a mistake that the runtime found; its help goes into the message."""
    message = f"{problem.message}; {problem.help}" if problem.help else problem.message
    return bad(message, param or problem.field.removeprefix("request.") or None)


def answer(error: ApiError, request_id: str | None = None) -> Json:
    """The error as an answer; failures of the server name the request's id."""
    failed = error.status >= 500
    tail = f" (request {request_id})" if failed and request_id else ""
    body = {
        "message": error.message + tail,
        "type": _type(error.status),
        "param": error.param,
        "code": error.code,
    }
    return Json({"error": body}, error.status, headers=error.headers)


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return "rate_limit_error" if status == 429 else "invalid_request_error"


async def _api_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiError)
    return answer(problem, request.scope.get("request_id"))


async def _user_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, UserError)
    return answer(said_by(problem))


async def _queue_full(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, QueueFull)
    return answer(
        ApiError(
            429,
            f"the queue is full; try again in {problem.retry_after} s",
            code="queue_full", headers={"Retry-After": str(problem.retry_after)},
        )
    )  # fmt: skip


async def _draining(request: Request, problem: Exception) -> Response:
    return answer(ApiError(503, "the server is stopping", code="shutting_down"))


async def _gone(request: Request, problem: Exception) -> Response:
    return answer(ApiError(499, "the client went away", code="client_closed_request"))


async def _http_error(request: Request, problem: Exception) -> Response:
    """What Starlette itself refuses: no such route, or not with this method."""
    assert isinstance(problem, HTTPException)
    status, path = problem.status_code, request.url.path
    message = {
        404: f"`{path}` is not served here",
        405: f"`{path}` does not take {request.method}",
    }.get(status, problem.detail)
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    headers = {"Allow": _methods(request)} if status == 405 else problem.headers
    return answer(ApiError(status, message, code=code, headers=headers))


def _methods(request: Request) -> str:
    """The methods that any route takes at this path."""
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
    ClientDisconnect: _gone,
    HTTPException: _http_error,
}
