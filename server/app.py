"""The application: its parts wired together, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from server.api import chat, files, health, images, interleaved, models, responses
from server.api.cross_site import refuse_cross_site
from server.api.errors import add_error_handlers, error_response, internal_error
from server.api.playground import playground_router
from server.backend import OpenBackend
from server.guard.body import BodyLimit
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
    """
    if open_backend is None:
        # Here, not above: what brings its own backend need not wait for vLLM's imports.
        from server.vllm_backend import open_vllm_backend

        open_backend = open_vllm_backend
    service = Service(settings, open_backend)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="DreamServe",
        version=version("dreamserve"),
        summary="One request in, one document of text and pictures out.",
        root_path=settings.server.root_path,
        lifespan=lifespan,
    )
    app.state.service = service
    for surface in (interleaved, chat, responses, images, files, models, health):
        app.include_router(surface.router, dependencies=[Depends(refuse_cross_site)])
    if settings.server.playground:
        app.include_router(playground_router())
    add_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.body_bytes)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.server.allowed_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["X-Document-Id", "X-Request-Id"],
    )
    app.add_middleware(RequestObserver, internal_error=lambda: error_response(internal_error()))
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The description of the app, with the events of its streams, which no route returns as such."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema["components"]["schemas"]
        for name, events in STREAM_EVENTS.items():
            described = TypeAdapter(events).json_schema(
                ref_template="#/components/schemas/{model}", mode="serialization"
            )
            components.update(described.pop("$defs"), **{name: described})
        app.openapi_schema = schema
    return app.openapi_schema
