"""The HTTP application: routes, middleware, and the stop of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from runtime import Runtime
from runtime.settings.policies import Policies
from server.errors import HANDLERS
from server.images import Images
from server.middleware import middleware
from server.models import Models
from server.served_model import ServedModel
from server.service import Service
from server.videos import Videos


def make_app(service: Service, runtime: Runtime, policies: Policies) -> Starlette:
    """The application; it stops the service, which has been started."""
    served = ServedModel.of(runtime, policies)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.stop(policies.server.http_graceful_shutdown_timeout)

    parts = (Images(served, service), Videos(served, service), Models(served, service))
    app = Starlette(
        routes=[route for part in parts for route in part.routes()],
        middleware=middleware(policies.server),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # `/path/` is not another name of `/path`
    return app
