"""Ready means: the model has answered, and would answer now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.availability import State
from server.backend import Backend
from server.pool.base import PoolLoad, RenderError
from server.settings import Settings
from tests.api.serving import in_memory, scripted_backend, scripted_engine, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import EOS, Gate


async def test_the_server_is_ready_when_text_and_picture_of_the_warm_up_are_there() -> None:
    text, picture = Gate(), Gate()
    engine, pool = ScriptedEngine([[text, EOS]]), ScriptedPool([[picture]])
    async with in_memory(engine, pool) as app:
        for gate in (text, picture):
            await gate.reached.wait()
            ready = await app.client.get("/health/ready")
            live = await app.client.get("/health/live")
            refused = await app.client.post("/v1/interleaved", json={"input": "a"})
            gate.open()

            assert live.status_code == 200
            assert ready.status_code == refused.status_code == 503
            assert ready.json()["error"]["code"] == refused.json()["error"]["code"] == "server_loading"
            assert int(ready.headers["retry-after"]) > 0
        await app.ready()

        assert (await app.client.get("/health/ready")).json() == {"status": "ready"}
        assert (await app.client.get("/health")).json() == {"status": "ready"}
        assert len(engine.dream_calls) == len(pool.jobs) == 1


@pytest.mark.parametrize(
    ("engine", "pool"),
    [
        (ScriptedEngine([[RuntimeError("no text")]]), ScriptedPool()),
        (ScriptedEngine([[EOS]], dreams=[RuntimeError("no dreams")]), ScriptedPool()),
        (ScriptedEngine([[EOS]]), ScriptedPool([[RenderError("render_failed", "no picture")]])),
    ],
)
async def test_a_model_that_cannot_answer_the_warm_up_is_never_ready(
    engine: ScriptedEngine, pool: ScriptedPool
) -> None:
    async with in_memory(engine, pool) as app:
        await until(lambda: app.service.state is State.FAILED)
        ready = await app.client.get("/health/ready")
        live = await app.client.get("/health/live")

    assert ready.status_code == live.status_code == 503
    assert live.json()["error"]["code"] == "server_failed"


async def test_a_model_that_takes_too_long_for_the_warm_up_is_never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.service.WARM_UP_LIMIT_S", 0.01)
    async with in_memory(ScriptedEngine([[Gate()]])) as app:
        await until(lambda: app.service.state is State.FAILED)

    assert app.engine.requests.aborted == ["warm-up"]


async def test_a_model_that_does_not_load_is_told_by_the_health_checks() -> None:
    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        raise OSError("no such checkpoint")
        yield

    async with in_memory(open_backend=open_backend) as app:
        await until(lambda: app.service.state is State.FAILED)

        assert (await app.client.get("/health/live")).status_code == 503


async def test_a_dead_engine_is_neither_ready_nor_live() -> None:
    async with in_memory(scripted_engine()) as app:
        await app.ready()
        app.engine.dead = True
        ready = await app.client.get("/health/ready")
        live = await app.client.get("/health/live")

    assert ready.status_code == live.status_code == 503
    assert live.json()["error"]["code"] == "engine_dead"


async def test_a_pool_without_workers_leaves_text_alone() -> None:
    async with in_memory(scripted_engine()) as app:
        await app.ready()
        app.pool.current_load = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0)
        ready = await app.client.get("/health/ready")
        live = await app.client.get("/health/live")

        with_pictures = await app.client.post("/v1/interleaved", json={"input": "a"})
        text_alone = await app.client.post("/v1/interleaved", json={"input": "a", "images": {"max": 0}})

    assert ready.status_code == with_pictures.status_code == 503
    assert with_pictures.json()["error"]["code"] == "server_no_workers"
    assert int(with_pictures.headers["retry-after"]) > 0
    assert live.status_code == text_alone.status_code == 200


async def test_a_pool_that_will_never_draw_again_is_not_live() -> None:
    async with in_memory(scripted_engine()) as app:
        await app.ready()
        app.pool.dead = True
        live = await app.client.get("/health/live")

    assert live.status_code == 503
    assert live.json()["error"]["code"] == "pool_dead"


async def test_the_backend_is_closed_after_the_last_document() -> None:
    gate, closed = Gate(), asyncio.Event()
    engine, pool = scripted_engine(["Once", gate, EOS]), ScriptedPool()

    @asynccontextmanager
    async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
        async with scripted_backend(engine, pool)(settings) as backend:
            yield backend
        assert not engine.requests.running
        closed.set()

    async with in_memory(open_backend=open_backend) as app:
        await app.ready()
        asking = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()

    assert closed.is_set()
    assert (await asking).status_code == 503
