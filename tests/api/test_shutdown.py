"""SIGTERM: readiness falls, documents at work go on for a while, and no stream ends without a last event."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from server.availability import State
from server.backend import Backend
from server.settings import Settings
from tests.api.serving import Listening, in_memory, on_socket, scripted_backend, scripted_engine, until
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import EOS, Gate

BODY = {"input": "a", "stream": True}


async def read(app: Listening) -> list[ServerSentEvent]:
    async with aconnect_sse(app.client, "POST", "/v1/interleaved", json=BODY) as source:
        return [event async for event in source.aiter_sse()]


async def test_documents_at_work_are_finished_and_new_ones_refused() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, " upon a time.", EOS]), server={"shutdown_grace_s": 60}) as app:
        reading = asyncio.create_task(read(app))
        await gate.reached.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: app.service.state is State.DRAINING)
        ready = await app.client.get("/health/ready")
        live = await app.client.get("/health/live")
        refused = await app.client.post("/v1/interleaved", json={"input": "b"})
        gate.open()
        events = await reading
        await app.serving

    assert ready.status_code == refused.status_code == 503
    assert refused.json()["error"]["code"] == "server_draining"
    assert refused.headers["retry-after"]
    assert live.status_code == 200
    assert events[-1].event == "document.completed"
    assert "".join(event.json()["text"] for event in events if event.event == "text.delta") == "Once upon a time."


async def test_for_a_while_requests_are_taken_although_readiness_has_fallen() -> None:
    async with on_socket(server={"shutdown_delay_s": 600}) as app:
        os.kill(os.getpid(), signal.SIGTERM)
        while (await app.client.get("/health/ready")).status_code == 200:
            pass
        live = await app.client.get("/health/live")
        answered = await app.client.post("/v1/interleaved", json={"input": "a"})
        os.kill(os.getpid(), signal.SIGTERM)  # the second one waits for nothing
        await app.serving

    assert live.status_code == 200
    assert answered.status_code == 200


async def test_a_while_is_no_longer_than_it_is_set() -> None:
    async with on_socket(server={"shutdown_delay_s": 0.01}) as app:
        os.kill(os.getpid(), signal.SIGTERM)
        await app.serving
    assert app.service.state is State.DRAINING


async def test_documents_that_take_too_long_end_with_an_error_event() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, EOS]), server={"shutdown_grace_s": 0}) as app:
        reading = asyncio.create_task(read(app))
        await gate.reached.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        events = await reading
        await app.serving

    assert [event.id for event in events] == [str(n) for n in range(len(events))]
    assert events[-1].event == "document.failed"
    assert events[-1].json()["error"]["code"] == "shutdown"
    assert app.engine.requests.aborted
    assert not app.engine.requests.running


async def test_a_caller_who_waits_for_the_whole_document_is_told_of_the_shutdown() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, EOS]), server={"shutdown_grace_s": 0}) as app:
        waiting = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        response = await waiting

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "shutdown"


async def test_an_idle_server_stops_at_once() -> None:
    async with on_socket() as app:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await app.serving
    assert app.service.state is State.DRAINING


async def test_a_second_signal_ends_documents_at_work_with_an_error_event() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, EOS]), server={"shutdown_grace_s": 600}) as app:
        reading = asyncio.create_task(read(app))
        await gate.reached.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: app.service.state is State.DRAINING)
        os.kill(os.getpid(), signal.SIGINT)
        events = await reading
        await app.serving

    assert events[-1].event == "document.failed"
    assert events[-1].json()["error"]["code"] == "shutdown"
    assert events[-1].json()["usage"]["completion_tokens"] == len("Once")


async def test_a_server_that_is_told_to_stop_while_it_loads_does_not_warm_up() -> None:
    engine, opening, may_open = scripted_engine(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
        opening.set()
        await may_open.wait()
        async with scripted_backend(engine, ScriptedPool())(settings) as backend:
            yield backend

    async with in_memory(engine, open_backend=open_backend) as app:
        await opening.wait()
        await app.service.drain(grace_s=0)
        may_open.set()

    assert engine.calls == []
    assert app.service.state is State.DRAINING


async def test_a_document_that_does_not_end_does_not_keep_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.service.LAST_EVENT_LIMIT_S", 0.01)
    async with in_memory() as app:
        await app.ready()
        stuck = asyncio.create_task(asyncio.Event().wait())
        document = Mock(task=stuck)
        app.service.documents.add(document)
        await app.service.drain(grace_s=0)
        app.service.documents.clear()
        stuck.cancel()

    assert document.fail.call_args.args[0] == "shutdown"
    assert "1 documents did not end" in caplog.text
