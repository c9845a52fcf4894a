"""SIGTERM: readiness falls, documents at work go on for a while, and no stream ends without a last event."""

import asyncio
import os
import signal

from httpx_sse import ServerSentEvent, aconnect_sse

from server.service import State
from tests.api.serving import Listening, on_socket, scripted_engine, until
from tests.scripted import EOS, Gate

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
