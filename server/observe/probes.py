"""Health checks and metrics of a process that serves nothing else over HTTP."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

import uvicorn
from prometheus_client import REGISTRY, Gauge, Info
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Problem = Callable[[], str | None]

BUILD = Info("dreamserve_build", "What is running.")
BUILD.info({"version": version("dreamserve")})
ASYNCIO_TASKS = Gauge("dreamserve_asyncio_tasks", "Tasks on the event loop. At rest always as many.")


def probes(not_started: Problem, unhealthy: Problem, not_ready: Problem) -> Starlette:
    """``/health/started``, ``/health/live``, ``/health/ready`` and ``/metrics``.

    Args:
        not_started: says what has still to be done before any work; None once it has been done.
        unhealthy: says why only a new process could work again; None when this one can.
        not_ready: says why no work should be expected now; None when it may.
    """

    async def started(_: Request) -> JSONResponse:
        return _answer("started", not_started())

    async def live(_: Request) -> JSONResponse:
        return _answer("alive", unhealthy())

    async def ready(_: Request) -> JSONResponse:
        return _answer("ready", unhealthy() or not_started() or not_ready())

    return Starlette(
        routes=[
            Route("/health/started", started),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", exposition),
        ]
    )


async def exposition(request: Request) -> Response:
    """All metrics of this process, in the format that is asked for."""
    ASYNCIO_TASKS.set(len(asyncio.all_tasks()))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=content_type)


def _answer(status: str, problem: str | None) -> JSONResponse:
    if problem is None:
        return JSONResponse({"status": status})
    error = {"message": problem, "type": "server_error", "param": None, "code": f"not_{status}"}
    return JSONResponse({"error": error}, status_code=503)


class ProbeServer(uvicorn.Server):
    """Answers until ``should_exit`` is set. Signals are its owner's.

    Args:
        app: see :func:`probes`.
    """

    def __init__(self, app: Starlette) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
