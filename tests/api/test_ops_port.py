"""Health checks and metrics on a port of their own: the other one shows neither."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from server.app import create_app, create_ops_app
from server.availability import State
from server.http_server import HTTPServer
from server.listener import listen
from server.service import Service
from server.settings import Settings
from tests.api.asking import ALICE, bearer, keys_of_alice_and_bob
from tests.api.serving import MODEL, scripted_backend, scripted_engine, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import EOS, Gate

HOST = "127.0.0.1"


class Server(NamedTuple):
    """What serves, and what is served."""

    http: HTTPServer
    service: Service


@asynccontextmanager
async def with_ops_port(
    folder: Path, engine: ScriptedEngine
) -> AsyncIterator[tuple[Server, httpx.AsyncClient, httpx.AsyncClient]]:
    """A server, and clients of its public port and of the other one. It may still be loading."""
    auth = keys_of_alice_and_bob(folder)
    settings = Settings(model=MODEL, auth=auth, server={"port": 0, "ops_port": 0})  # type: ignore[arg-type]
    app = create_app(settings, scripted_backend(engine, ScriptedPool()))
    listener, ops_listener = listen(HOST, 0), listen(HOST, 0)
    service = app.state.service
    server = HTTPServer(app, service, lambda _: None, (create_ops_app(service), ops_listener))
    serving = asyncio.create_task(server.serve([listener]))
    public_url, ops_url = (f"http://{HOST}:{socket.getsockname()[1]}" for socket in (listener, ops_listener))
    async with httpx.AsyncClient(base_url=public_url) as public, httpx.AsyncClient(base_url=ops_url) as ops:
        yield Server(server, service), public, ops
    server.should_exit = True
    await serving


async def test_the_ops_port_has_health_and_metrics_and_asks_for_no_key(tmp_path: Path) -> None:
    loading = Gate()
    async with with_ops_port(tmp_path, ScriptedEngine([[loading, EOS]])) as (server, _, ops):
        await loading.reached.wait()
        statuses = [(await ops.get(path)).status_code for path in ("/health/started", "/health/live", "/health/ready")]
        loading.open()
        await until(lambda: server.service.state is State.READY)
        started, ready = await ops.get("/health/started"), await ops.get("/health/ready")
        metrics = await ops.get("/metrics")
        others = [(await ops.get(path)).status_code for path in ("/v1/models", "/", "/docs", "/openapi.json")]

    assert statuses == [503, 200, 503]
    assert started.status_code == ready.status_code == 200
    assert "dreamserve_ready 1.0" in metrics.text
    assert others == [404] * 4


async def test_the_public_port_has_neither(tmp_path: Path) -> None:
    async with with_ops_port(tmp_path, scripted_engine(["Hello.", EOS])) as (server, public, _):
        await until(lambda: server.service.state is State.READY)
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert (await public.get(path, headers=bearer(ALICE))).status_code == 404
        assert "/health" not in (await public.get("/openapi.json")).json()["paths"]
        answered = await public.post("/v1/interleaved", json={"input": "a"}, headers=bearer(ALICE))

    assert answered.status_code == 200


async def test_the_ops_port_tells_that_the_server_is_leaving_until_it_has_left(tmp_path: Path) -> None:
    gate = Gate()
    async with with_ops_port(tmp_path, scripted_engine(["Once", gate, EOS])) as (server, public, ops):
        await until(lambda: server.service.state is State.READY)
        asking = asyncio.create_task(public.post("/v1/interleaved", json={"input": "a"}, headers=bearer(ALICE)))
        await gate.reached.wait()
        server.http.handle_exit(15, None)
        await until(lambda: server.service.state is State.DRAINING)
        ready, live = await ops.get("/health/ready"), await ops.get("/health/live")
        gate.open()
        answer = await asking

    assert (ready.status_code, live.status_code, answer.status_code) == (503, 200, 200)
    assert ready.json()["error"]["code"] == "server_draining"
