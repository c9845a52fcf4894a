"""A server with scripted parts on a thread of its own, for clients that block."""

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import pytest

from server.app import create_app
from server.http_server import HTTPServer
from server.settings import Settings
from tests.api.serving import MODEL, NO_AUTH, scripted_backend
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool


class StartServer(Protocol):
    """Starts a server, and tells its URL."""

    def __call__(self, engine: ScriptedEngine, pool: ScriptedPool, auth: dict[str, Any] = NO_AUTH) -> str: ...


@contextmanager
def serving(engine: ScriptedEngine, pool: ScriptedPool, auth: dict[str, Any] = NO_AUTH) -> Iterator[str]:
    """A ready server; yields its URL."""
    settings = Settings(model=MODEL, auth=auth, server={"port": 0})  # type: ignore[arg-type]
    app = create_app(settings, scripted_backend(engine, pool))
    announced: queue.Queue[str] = queue.Queue()
    server = HTTPServer(app, app.state.service, on_ready=announced.put)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield announced.get(timeout=20)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers that stop after the test."""
    with ExitStack() as servers:
        yield lambda engine, pool, auth=NO_AUTH: servers.enter_context(serving(engine, pool, auth))
