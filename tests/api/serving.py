"""The app over scripted parts: in memory where that is enough, on a real socket where connections matter."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from asgi_lifespan import LifespanManager
from httpx_sse import ServerSentEvent, aconnect_sse

from server.app import create_app
from server.availability import State
from server.backend import Backend, DrawingDefaults, OpenBackend, TextDefaults
from server.http_server import HTTPServer
from server.llm.prompt import PromptBuilder
from server.service import Service
from server.settings import Settings
from tests.scripted.engine import ScriptedEngine, TokenItem
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import EOS

DRAWING = DrawingDefaults(64, 64, size_multiple=16, steps=4, guidance_scale=3.0, scheduler="ddpm")
TEXT = TextDefaults(temperature=0.5, top_p=0.9, top_k=40)
MODEL = {"served_name": "scripted"}
NO_AUTH: dict[str, Any] = {"enabled": False}


def scripted_backend(engine: ScriptedEngine, pool: ScriptedPool) -> OpenBackend:
    """Opens a backend of stand-ins."""

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        yield Backend(engine, PromptBuilder(engine), pool, DRAWING, TEXT)

    return open_backend


def scripted_engine(*turns: Sequence[TokenItem], **options: Any) -> ScriptedEngine:
    """An engine that answers the warm-up and then follows the turns."""
    return ScriptedEngine([[EOS], *turns], **options)


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what the stand-ins record is no event
            await asyncio.sleep(0.001)


@dataclass
class Running:
    """A running app.

    Attributes:
        client: sends requests to it.
        service: of the app.
        engine: the stand-in.
        pool: the stand-in.
    """

    client: httpx.AsyncClient
    service: Service
    engine: ScriptedEngine
    pool: ScriptedPool

    async def ready(self) -> None:
        """Return when the app takes requests."""
        await until(lambda: self.service.state is not State.LOADING)
        assert self.service.state is State.READY

    async def events(self, body: dict[str, Any]) -> list[ServerSentEvent]:
        """All events of a streamed document."""
        async with aconnect_sse(self.client, "POST", "/v1/interleaved", json={**body, "stream": True}) as source:
            assert source.response.status_code == 200, (await source.response.aread()).decode()
            return [event async for event in source.aiter_sse()]


@asynccontextmanager
async def in_memory(
    engine: ScriptedEngine | None = None,
    pool: ScriptedPool | None = None,
    open_backend: OpenBackend | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """The app without a socket. Not waited for: it may still be loading."""
    engine, pool = engine or scripted_engine(), pool or ScriptedPool()
    app = create_app(
        Settings(**{"model": MODEL, "auth": NO_AUTH, **settings}), open_backend or scripted_backend(engine, pool)
    )
    async with LifespanManager(app) as manager:
        transport = httpx.ASGITransport(manager.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://dreamserve") as client:
            yield Running(client, app.state.service, engine, pool)


@dataclass
class Listening(Running):
    """A running app on a socket.

    Attributes:
        server: the HTTP server.
        serving: done when the server has stopped.
    """

    server: HTTPServer
    serving: asyncio.Task[None]


@asynccontextmanager
async def on_socket(
    engine: ScriptedEngine | None = None, pool: ScriptedPool | None = None, limit_s: float = 20, **settings: Any
) -> AsyncIterator[Listening]:
    """The app on a socket of this machine, ready. A test that takes longer than the limit hangs."""
    engine, pool = engine or scripted_engine(), pool or ScriptedPool()
    settings = {"model": MODEL, "auth": NO_AUTH, **settings, "server": {"port": 0, **settings.get("server", {})}}
    app = create_app(Settings(**settings), scripted_backend(engine, pool))
    announced = asyncio.get_running_loop().create_future()
    server = HTTPServer(app, app.state.service, on_ready=announced.set_result)
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(limit_s), httpx.AsyncClient(base_url=await announced, timeout=20) as client:
            yield Listening(client, app.state.service, engine, pool, server, serving)
    finally:
        server.should_exit = True
        await serving
