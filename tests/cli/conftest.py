"""A server with scripted parts on a thread of its own, for clients that block."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from server.app import create_app
from server.http_server import HTTPServer
from server.settings import Settings
from tests.api.serving import MODEL, scripted_backend
from tests.scripted import ScriptedEngine, ScriptedPool

StartServer = Callable[[ScriptedEngine, ScriptedPool], str]


@contextmanager
def serving(engine: ScriptedEngine, pool: ScriptedPool) -> Iterator[str]:
    """A ready server; yields its URL."""
    settings = Settings(model=MODEL, server={"port": 0})  # type: ignore[arg-type]
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
        yield lambda engine, pool: servers.enter_context(serving(engine, pool))
