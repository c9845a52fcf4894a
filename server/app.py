"""The application: its parts wired together, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from server.api import health, interleaved, models
from server.api.cross_site import refuse_cross_site
from server.api.errors import add_error_handlers, error_response, internal_error
from server.backend import OpenBackend
from server.guard.body import BodyLimit
from server.observe.requests import RequestObserver
from server.schema.events import InterleavedEvent
from server.service import Service
from server.settings import Settings


def create_app(settings: Settings, open_backend: OpenBackend | None = None) -> FastAPI:
    """The application.

    Args:
        settings: of the server.
        open_backend: opens what makes the documents, while the app already answers health checks.
            By default vLLM and a pool in this process.
    """
    if open_backend is None:
        # Here, not above: what brings its own backend need not wait for vLLM's imports.
        from server.local_backend import open_local_backend

        open_backend = open_local_backend
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
    for router in (interleaved.router, models.router, health.router):
        app.include_router(router, dependencies=[Depends(refuse_cross_site)])
    add_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.body_bytes)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.server.allowed_origins,
        allow_methods=["GET", "POST"],
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
        event = TypeAdapter(InterleavedEvent).json_schema(ref_template="#/components/schemas/{model}")
        components = schema["components"]["schemas"]
        components.update(event.pop("$defs"), InterleavedEvent=event)
        app.openapi_schema = schema
    return app.openapi_schema
