"""Information about the model and the server, and the health endpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.errors import ApiError, JsonResponse, error_body
from server.openapi import document
from server.request_to_runs import no_model
from server.served_model import ServedModel, model_path
from server.service import Service


@dataclass(frozen=True)
class Models:
    """The read-only operations. created: Unix seconds."""

    served: ServedModel
    service: Service
    created: int = field(default_factory=lambda: int(time.time()))

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v1/models", self.list),
            Route("/v1/models/{id:path}", self.retrieve),
            Route("/models", self.about),
            Route("/server_info", self.server),
            Route("/model_info", self.model),
            Route("/v1/model_info", self.path),
            Route("/stats", self.stats),
            Route("/liveness", self.alive),
            Route("/health", self.ready),
            Route("/health_generate", self.ready),
            Route("/openapi.json", self.openapi),
        ]

    async def list(self, request: Request) -> Response:
        """The one model."""
        return JsonResponse({"object": "list", "data": [self._model()]})

    async def retrieve(self, request: Request) -> Response:
        """The model by one of its names."""
        name = request.path_params["id"]
        if name not in self.served.names:
            raise no_model(self.served, name)
        return JsonResponse(self._model())

    async def about(self, request: Request) -> Response:
        """A summary of the model."""
        return JsonResponse({"model_path": model_path(self.served.runtime), **self._details()})

    async def server(self, request: Request) -> Response:
        """Information about the server."""
        return JsonResponse(
            {
                "model_path": model_path(self.served.runtime),
                "served_model_name": self.served.name,
                "tp_size": 1,
                "dp_size": self.served.policies.parallel.dp_size,
                "version": version(),
            }
        )

    async def model(self, request: Request) -> Response:
        """Inputs and outputs of the model."""
        details = self._details()
        outputs = [
            n for n, can in (("image", self.served.pictures), ("video", self.served.clips)) if can
        ]
        return JsonResponse(
            {
                "model_path": model_path(self.served.runtime),
                "is_generation": True,
                "model_type": "diffusion",
                "architectures": [details["pipeline_class"]] if details["pipeline_class"] else [],
                "has_image_understanding": self.served.picture is not None,
                "has_audio_understanding": False,
                "task_type": details["task_type"],
                "supported_task_types": details["supported_task_types"],
                "output_types": outputs,
                "is_image_gen": self.served.pictures,
            }
        )

    async def path(self, request: Request) -> Response:
        """The model's name on the hub."""
        return JsonResponse({"model_path": model_path(self.served.runtime)})

    async def stats(self, request: Request) -> Response:
        """Counters of the queue, and the state of each engine."""
        return JsonResponse(self.service.stats())

    async def alive(self, request: Request) -> Response:
        """Always 200: the process answers HTTP, whatever the state of its engines."""
        return JsonResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 while an engine can run a job, else 503 with the reason."""
        reason = self.service.not_ready()
        if reason is None:
            return JsonResponse({"status": "ok"})
        error = ApiError(503, f"not ready: {reason}", code="not_ready")
        body = {"status": "unhealthy", "error": error_body(error)}
        return JsonResponse(body, 503)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return JsonResponse(document(self.served, version()))

    def _model(self) -> dict[str, Any]:
        return {
            "id": self.served.name,
            "object": "model",
            "created": self.created,
            "owned_by": "sglang",
            "root": model_path(self.served.runtime),
            "parent": None,
            "max_model_len": None,
            **self._details(),
        }

    def _details(self) -> dict[str, Any]:
        precision, tasks = self.served.policies.precision, self.served.tasks
        graph = self.served.runtime.graph
        return {
            "num_gpus": self.served.policies.parallel.dp_size,
            "task_type": tasks[0] if tasks else None,
            "supported_task_types": tasks,
            "dit_precision": precision.dit,
            "vae_precision": precision.vae,
            "pipeline_name": graph.name,
            "pipeline_class": self.served.runtime.config.checkpoint.class_name or None,
        }


def version() -> str:
    """The version of this package."""
    try:
        return metadata.version("sglang-graph")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "0"
