"""uvicorn, with an end that no caller notices: on SIGTERM it goes on answering while running documents finish."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI, Response

from server.api.errors import error_response
from server.availability import State
from server.guard.connection import BoundedProtocol
from server.observe.probes import ProbeServer
from server.schema.errors import APIError
from server.service import Service

LAST_BYTES_S = 5  # for slow readers to take the last events of their streams


def no_request(message: str) -> Response:
    """The response to what is no HTTP, or too much of it."""
    return error_response(APIError(400, message, code="bad_request"))


class HTTPServer(uvicorn.Server):
    """Serves one app until it is told to stop or its model fails.

    On the first SIGTERM or SIGINT readiness falls, and after ``server.shutdown_delay_s`` new documents are refused. The
    socket stays open: an orchestrator can see that the server is leaving, and running streams end properly. On the
    second the documents still at work end at once, with an error event.

    The signals are for this process. vLLM's processes take no notice of a SIGINT, which a terminal sends to all of
    them, but a SIGTERM ends them, as it must: whoever stops a service by signalling all of its processes (systemd,
    unless ``KillMode=mixed``) ends the running documents with an error event.

    A model that has died, its engine or its pool, is no better than a signal: requests are refused, documents that need
    no more than what is left of it are finished, those that need more have ended with an error event, and then the
    server stops, so that a supervisor starts another one. The state of its service says why.

    Args:
        app: made by :func:`server.app.create_app`.
        service: of the app.
        on_ready: called once, with the server's URL, when documents can be made.
        ops: an app for operators and where it listens, from the start of the server to its very end.
    """

    def __init__(
        self,
        app: FastAPI,
        service: Service,
        on_ready: Callable[[str], None],
        ops: tuple[FastAPI, socket.socket] | None = None,
    ) -> None:
        server = service.settings.server
        config = uvicorn.Config(
            app,
            host=server.host,
            port=server.port,
            timeout_graceful_shutdown=LAST_BYTES_S,
            http=cast(type[asyncio.Protocol], partial(BoundedProtocol, server, no_request)),
            ws="none",
            log_config=None,
            access_log=False,
        )
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._announced = False
        self._signals = 0
        self._drains: list[asyncio.Task[None]] = []
        self._ops = ops

    @property
    def url(self) -> str:
        """Where the server can be reached from this machine, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        host = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else f"[{host}]" if ":" in host else host  # noqa: S104
        return f"http://{host}:{port}{self._service.settings.server.root_path}"

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        if self._ops is None:
            await super().serve(sockets)
            return
        app, listener = self._ops
        probe_server = ProbeServer(app)
        probing = asyncio.create_task(probe_server.serve([listener]), name="health checks and metrics")
        try:
            await super().serve(sockets)
        finally:
            probe_server.should_exit = True
            await probing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1

    async def on_tick(self, counter: int) -> bool:
        stop = await super().on_tick(counter)
        if self._service.state is State.READY and not self._announced:
            self._announced = True
            self._on_ready(self.url)
        await self._service.watch()
        reasons = self._signals + (self._service.state is State.FAILED)
        while len(self._drains) < reasons:
            self._drains.append(asyncio.create_task(self._drain(at_once=bool(self._drains)), name="drain"))
        drained = any(drain.done() for drain in self._drains)
        if drained:
            await asyncio.gather(*self._drains)
        return stop or drained

    async def _drain(self, *, at_once: bool) -> None:
        server = self._service.settings.server
        if not at_once:
            await self._service.retire(server.shutdown_delay_s)
        await self._service.drain(0 if at_once else server.shutdown_grace_s)
