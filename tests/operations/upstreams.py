"""What stands behind a gateway in tests: real servers over scripted parts, and peers that behave badly."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from server.app import create_app, create_ops_app
from server.backend import OpenBackend
from server.http_server import HTTPServer
from server.listener import listen
from server.service import Service
from server.settings import Settings
from tests.api.serving import MODEL, NO_AUTH, scripted_backend, scripted_engine
from tests.redis_server import HOST, free_port
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool


@dataclass(frozen=True)
class Address:
    """Where an upstream listens on this machine.

    Attributes:
        port: for requests.
        ops_port: for health checks.
    """

    port: int
    ops_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def ops_url(self) -> str:
        return f"http://{HOST}:{self.ops_port}"


@dataclass(frozen=True)
class Upstream:
    """A real server.

    Attributes:
        address: of it.
        service: of its app.
        engine: the stand-in.
        server: the HTTP server.
        serving: done when it has stopped.
    """

    address: Address
    service: Service
    engine: ScriptedEngine
    server: HTTPServer
    serving: asyncio.Task[None]

    def terminate(self) -> None:
        """What the process of the server does on SIGTERM; the process of a test has several servers."""
        self.server.handle_exit(signal.SIGTERM, None)


@asynccontextmanager
async def upstream(
    engine: ScriptedEngine | None = None, open_backend: OpenBackend | None = None, **settings: Any
) -> AsyncIterator[Upstream]:
    """A server whose model has answered, with its health checks on a port of their own."""
    engine = engine or scripted_engine()
    ports = {"port": 0, "ops_port": 0}
    settings = {"model": MODEL, "auth": NO_AUTH, **settings, "server": {**ports, **settings.get("server", {})}}
    app = create_app(Settings(**settings), open_backend or scripted_backend(engine, ScriptedPool()))
    listener, ops_listener = listen(HOST, 0), listen(HOST, 0)
    ready = asyncio.get_running_loop().create_future()
    service = app.state.service
    server = HTTPServer(app, service, ready.set_result, (create_ops_app(service), ops_listener))
    address = Address(listener.getsockname()[1], ops_listener.getsockname()[1])
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await ready
        yield Upstream(address, service, engine, server, serving)
    finally:
        server.should_exit = True
        await serving


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Peer:
    """Says that it is healthy and treats requests as it was told to.

    Attributes:
        answer: what a request gets; nothing: the connection ends instead.
        requests: the heads of those that have come, as they came.
    """

    answer: bytes = ANSWER
    requests: list[str] = field(default_factory=list)
    _listeners: list[asyncio.Server] = field(default_factory=list)

    @property
    def address(self) -> Address:
        """Of the peer, once it has been started."""
        port, ops_port = (listener.sockets[0].getsockname()[1] for listener in self._listeners)
        return Address(port, ops_port)

    async def __aenter__(self) -> Self:
        for answer in (self._treat, self._be_healthy):
            self._listeners.append(await asyncio.start_server(answer, HOST, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self._listeners:
            listener.close()

    async def _treat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _converse(reader, writer, self._note)

    async def _be_healthy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _converse(reader, writer, lambda _: ANSWER)

    def _note(self, head: str) -> bytes:
        self.requests.append(head)
        return self.answer


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[str], bytes]) -> None:
    """Answer requests, whose bodies are not read, until one gets nothing."""
    try:
        while answered := answer((await reader.readuntil(b"\r\n\r\n")).decode()):
            writer.write(answered)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        return
    finally:
        writer.transport.abort()


def closed(healthy: Peer) -> Address:
    """An upstream that refuses connections, although it says that it is healthy: as between two health checks."""
    return Address(free_port(), healthy.address.ops_port)
