"""A caller who leaves takes all that was started for him along."""

import asyncio

import httpx
import pytest
from httpx_sse import aconnect_sse

from server.observe.metrics import DOCUMENTS
from server.pool.base import Preview, Queued, RenderedImage
from tests.api.serving import Listening, on_socket, scripted_engine, until
from tests.scripted.pool import ScriptedPool, drawing, solid
from tests.scripted.script import DREAM, EOS, Gate


def nothing_runs(app: Listening) -> bool:
    return not app.engine.requests.running and not app.pool.record.running and not app.service.documents


async def test_leaving_a_stream_aborts_the_text() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, "upon a time", EOS])) as app:
        body = {"input": "a", "stream": True}
        async with aconnect_sse(app.client, "POST", "/v1/interleaved", json=body) as source:
            async for event in source.aiter_sse():
                if event.event == "text.delta":
                    break
            await gate.reached.wait()
        await until(lambda: nothing_runs(app))

        assert len(app.engine.requests.aborted) == 1


async def test_leaving_a_stream_cancels_the_picture() -> None:
    gate = Gate()
    pool = ScriptedPool([lambda job: [], [Queued(0, None), gate]])
    async with on_socket(scripted_engine(["Look: ", DREAM], [EOS]), pool) as app:
        body = {"input": "a", "stream": True}
        async with aconnect_sse(app.client, "POST", "/v1/interleaved", json=body) as source:
            async for event in source.aiter_sse():
                if event.event == "image.queued":
                    break
            await gate.reached.wait()
        await until(lambda: nothing_runs(app))

        assert pool.record.aborted[-1] == pool.jobs[-1].id


@pytest.mark.parametrize("draws", [False, True])
async def test_leaving_before_the_whole_document_is_there_aborts_it(draws: bool) -> None:
    gate = Gate()
    turns = [["Look: ", DREAM], [EOS]] if draws else [["Once", gate, EOS]]
    pool = ScriptedPool([lambda job: [], [Queued(0, None), gate]])
    async with on_socket(scripted_engine(*turns), pool) as app:
        before = DOCUMENTS.labels("cancelled")._value.get()
        request = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await until(lambda: nothing_runs(app))

        assert (pool.record if draws else app.engine.requests).aborted
        assert DOCUMENTS.labels("cancelled")._value.get() == before + 1


async def test_one_caller_who_leaves_does_not_disturb_another() -> None:
    first, second = Gate(), Gate()
    async with on_socket(scripted_engine(["one", first, EOS], ["two", second, "three", EOS])) as app:
        leaving = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await first.reached.wait()
        staying = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "b"}))
        await second.reached.wait()
        leaving.cancel()
        await until(lambda: len(app.engine.requests.aborted) == 1)
        second.open()
        response: httpx.Response = await staying

        assert response.json()["parts"] == [{"type": "text", "text": "twothree"}]


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    gate = Gate()
    engine = scripted_engine(["Once", gate, EOS])
    async with on_socket(engine, server={"keepalive_s": 0.01}) as app:
        body = {"input": "a", "stream": True}
        async with app.client.stream("POST", "/v1/interleaved", json=body) as response:
            async for line in response.aiter_lines():
                if line == ": keep-alive":
                    gate.open()
                if line == "event: document.completed":
                    break
            else:
                pytest.fail("the stream ended without a last event")
        assert gate.reached.is_set()


async def test_a_reader_who_stalls_is_cut_off() -> None:
    large = RenderedImage(bytes(16_000_000), "png", solid(64, 64, (0, 0, 0)))  # more than a socket holds
    pool = ScriptedPool([drawing, [Queued(0, None), Preview(0, large), Gate()]])
    impatient = {"keepalive_s": 0.01, "send_timeout_s": 0.05}
    async with on_socket(scripted_engine(["Look: ", DREAM]), pool, server=impatient) as app:
        async with app.client.stream("POST", "/v1/interleaved", json={"input": "a", "stream": True}):
            await until(lambda: bool(pool.record.aborted))
            await until(lambda: nothing_runs(app))

        assert pool.record.aborted == [pool.jobs[-1].id]


async def test_a_document_that_waits_only_for_its_reader_holds_no_place() -> None:
    large = RenderedImage(bytes(16_000_000), "png", solid(64, 64, (0, 0, 0)))  # more than a socket holds
    pool = ScriptedPool([drawing, [Queued(0, None), Preview(0, large), large]])
    engine = scripted_engine(["Look: ", DREAM], [EOS], ["another", EOS])
    async with on_socket(engine, pool, admission={"max_running": 1}) as app:
        slow = {"input": "a", "stream": True}
        async with app.client.stream("POST", "/v1/interleaved", json=slow):
            answer = await app.client.post("/v1/interleaved", json={"input": "b"})
            assert not nothing_runs(app)

        assert answer.json()["parts"] == [{"type": "text", "text": "another"}]
