"""The application: its parts wired together, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from server.api import chat, files, health, images, interleaved, models, responses
from server.api.cross_site import refuse_cross_site
from server.api.errors import (
    add_error_handlers,
    authentication_error,
    error_response,
    internal_error,
    rate_limit_error,
)
from server.api.playground import playground_router
from server.backend import OpenBackend
from server.guard.authentication import Authentication, needs_key
from server.guard.body import BodyLimit
from server.guard.key_ring import open_keys
from server.guard.throttle import Throttle
from server.observe.requests import RequestObserver
from server.schema.chat_completion import ChatCompletionChunk
from server.schema.events import InterleavedEvent
from server.schema.images import ImagesEvent
from server.schema.responses_events import ResponseStreamEvent
from server.service import Service
from server.settings import Settings

STREAM_EVENTS: dict[str, Any] = {
    "InterleavedEvent": InterleavedEvent,
    "ChatCompletionChunk": ChatCompletionChunk,
    "ImagesEvent": ImagesEvent,
    "ResponseStreamEvent": ResponseStreamEvent,
}
"""What the streams of the surfaces consist of, by the names that their descriptions refer to."""


def create_app(settings: Settings, open_backend: OpenBackend | None = None) -> FastAPI:
    """The application.

    Args:
        settings: of the server.
        open_backend: opens what makes the documents, while the app already answers health checks.
            By default vLLM, and a pool in this process or behind Redis.

    Raises:
        KeysError: there are no API keys, and not having any is not what the settings say.
    """
    if open_backend is None:
        # Here, not above: what brings its own backend need not wait for vLLM's imports.
        from server.vllm_backend import open_vllm_backend

        open_backend = open_vllm_backend
    keys = open_keys(settings.auth)
    service = Service(settings, open_backend)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with keys.watched() if keys else nullcontext(), service.running():
            yield

    app = FastAPI(
        title="DreamServe",
        version=version("dreamserve"),
        summary="One request in, one document of text and pictures out.",
        root_path=settings.server.root_path,
        lifespan=lifespan,
    )
    app.state.service = service
    for surface in (interleaved, chat, responses, images, files, models):
        app.include_router(surface.router, dependencies=[Depends(refuse_cross_site)])
    if settings.server.ops_port is None:
        app.include_router(health.router)
    if settings.server.playground:
        app.include_router(playground_router())
    add_error_handlers(app)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit, max_bytes=settings.limits.body_bytes, timeout_s=settings.server.body_timeout_s)
    app.add_middleware(
        Throttle, limits=service.rate_limits, refusal=lambda error: error_response(rate_limit_error(error))
    )
    app.add_middleware(Authentication, keys=keys, refusal=lambda error: error_response(authentication_error(error)))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.server.allowed_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["X-Document-Id", "X-Request-Id", "Retry-After"],
    )
    app.add_middleware(RequestObserver, internal_error=lambda: error_response(internal_error()))
    app.openapi = lambda: openapi(app, asks_for_keys=keys is not None)  # type: ignore[method-assign]
    return app


def create_ops_app(service: Service) -> FastAPI:
    """What an operator asks of a service, for a port of its own: health checks and metrics. It asks for no key."""
    app = FastAPI(title="DreamServe", openapi_url=None)
    app.state.service = service
    app.include_router(health.router)
    add_error_handlers(app)
    return app


def openapi(app: FastAPI, *, asks_for_keys: bool) -> dict[str, Any]:
    """The description of the app, with what no route says of itself: the events of its streams, and who is answered."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema["components"]["schemas"]
        for name, events in STREAM_EVENTS.items():
            described = TypeAdapter(events).json_schema(
                ref_template="#/components/schemas/{model}", mode="serialization"
            )
            components.update(described.pop("$defs"), **{name: described})
        if asks_for_keys:
            schema["components"]["securitySchemes"] = {"api_key": {"type": "http", "scheme": "bearer"}}
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    operation["security"] = [{"api_key": []}] if needs_key(path) else []
        app.openapi_schema = schema
    return app.openapi_schema
