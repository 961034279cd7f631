"""Middleware: request ids, CORS, API key, security headers, and a 500 for any exception."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.settings.policies import Server
from server.errors import ApiError, error_response, shutting_down
from server.storage_errors import DISK_FULL, is_disk_full

OPEN = frozenset({"/liveness", "/health", "/health_generate"})
SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
EXPOSED_HEADERS = (
    *("X-Request-Id", "openai-poll-after-ms", "Retry-After", "Allow", "WWW-Authenticate"),
    *("Content-Disposition", "Content-Length", "Content-Range", "Accept-Ranges", "ETag"),
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = logging.getLogger("uvicorn.error")


def middleware(policy: Server) -> list[Middleware]:
    """The middleware, outermost first. CORS is before `ApiKey`: preflight requests carry no key."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=policy.cors_origin,
        allow_methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=EXPOSED_HEADERS,
    )
    key = Middleware(ApiKey, key=policy.api_key or "")
    return [
        Middleware(RequestId),
        *([cors] if policy.cors_origin else ()),
        Middleware(InternalErrors),
        *([key] if policy.api_key else ()),
    ]


class RequestId:
    """Give every request an id, its own `X-Request-Id` where that is valid, and send it back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        scope["request_id"] = name

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = name
                for header, value in SECURITY_HEADERS.items():
                    headers[header] = value
            await send(message)

        await self.app(scope, receive, marked)


class InternalErrors:
    """Answer 500 with the request's id where a handler raises; the traceback goes to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            # uvicorn cancels the requests that are open when the graceful time is over.
            if started:
                raise
            await error_response(shutting_down(), scope["request_id"])(scope, receive, send)
        except Exception as problem:
            full = is_disk_full(problem)
            if full:
                log.error("request %s failed: the disk is full", scope["request_id"])
            else:
                log.exception("request %s failed", scope["request_id"])
            if started:
                raise
            error = (
                ApiError(507, DISK_FULL, code="disk_full")
                if full
                else ApiError(500, "internal error; see the server's log", code="internal_error")
            )
            await error_response(error, scope["request_id"])(scope, receive, send)


class ApiKey:
    """Answer 401 where the bearer token is not the key; compared in constant time."""

    def __init__(self, app: ASGIApp, key: str, open: Sequence[str] = tuple(OPEN)) -> None:
        self.app, self.key, self.open = app, key.encode(), frozenset(open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["path"] in self.open or self._knows(scope):
            await self.app(scope, receive, send)
            return
        error = ApiError(
            401,
            "the API key is missing or wrong: send it as `Authorization: Bearer KEY`",
            code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
        await error_response(error)(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        header = Headers(scope=scope).get("authorization", "")
        scheme, _, token = header.partition(" ")
        return hmac.compare_digest(token.strip().encode("latin-1"), self.key) and (
            scheme.lower() == "bearer"
        )
