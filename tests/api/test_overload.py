"""What callers see of a server that has too much to do."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, RateLimitError

from server.observe.metrics import ADMISSION_REFUSED, ADMISSION_TOKENS, ADMISSION_WAITING
from server.pool.base import PoolLoad
from tests.api.serving import Running, in_memory, on_socket, scripted_engine, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.script import DREAM, EOS, Gate

BUSY = PoolLoad(queue_depth=9, running=8, seconds_ahead=200.0, workers_alive=1, steps_per_s=4.0)
ONE_AT_A_TIME = {"max_running": 1, "max_waiting": 1}
REQUESTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "/v1/interleaved": lambda stream: {"input": "a", "stream": stream},
    "/v1/chat/completions": lambda stream: {"messages": [{"role": "user", "content": "a"}], "stream": stream},
    "/v1/responses": lambda stream: {"input": "a", "stream": stream},
    "/v1/images/generations": lambda stream: {"prompt": "a", "stream": stream},
}


def assert_overloaded(response: httpx.Response) -> None:
    assert response.status_code == 429
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("service_unavailable_error", None, "overloaded")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", REQUESTS)
async def test_pictures_that_would_come_too_late_are_refused_before_anything_is_sent(path: str, stream: bool) -> None:
    async with in_memory() as app:
        await app.ready()
        app.pool.current_load = BUSY
        before = ADMISSION_REFUSED.labels("pool_full")._value.get()
        response = await app.client.post(path, json=REQUESTS[path](stream))

        assert_overloaded(response)
        assert response.headers["retry-after"] == "140"
        assert ADMISSION_REFUSED.labels("pool_full")._value.get() == before + 1
        assert len(app.engine.calls) == 1  # of the warm-up


async def test_text_is_answered_while_the_pool_has_too_much_to_do(running: Running) -> None:
    running.pool.current_load = BUSY
    response = await running.client.post("/v1/interleaved", json={"input": "a", "images": {"max": 0}})

    assert response.status_code == 200


async def test_a_request_waits_for_its_turn_and_the_one_for_which_there_is_no_place_is_refused() -> None:
    gate = Gate()
    async with in_memory(scripted_engine([gate, EOS], ["second", EOS]), admission=ONE_AT_A_TIME) as app:
        await app.ready()
        first = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        second = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "b"}))
        await until(lambda: len(app.service.admission._line) == 1)
        assert (ADMISSION_WAITING._value.get(), ADMISSION_TOKENS._value.get() > 0) == (1, True)
        refused = await app.client.post("/v1/interleaved", json={"input": "c"})
        gate.open()
        answers = [await first, await second]
        await until(lambda: (ADMISSION_WAITING._value.get(), ADMISSION_TOKENS._value.get()) == (0, 0))

    assert_overloaded(refused)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].json()["parts"] == [{"type": "text", "text": "second"}]


async def test_a_caller_who_leaves_the_line_is_not_answered() -> None:
    gate = Gate()
    async with on_socket(scripted_engine([gate, EOS], ["third", EOS]), admission={"max_running": 1}) as app:
        first = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        leaving = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "b", "stream": True}))
        await until(lambda: len(app.service.admission._line) == 1)
        leaving.cancel()
        await until(lambda: len(app.service.admission._line) == 0)
        gate.open()
        await first
        third = await app.client.post("/v1/interleaved", json={"input": "c"})

    assert third.json()["parts"] == [{"type": "text", "text": "third"}]
    assert len(app.engine.calls) == 3


async def test_everything_is_given_back_when_documents_have_ended_in_any_way() -> None:
    gate = Gate()
    turns = (["Look: ", DREAM], [EOS], ["one", ZeroDivisionError()], ["two", gate])
    async with on_socket(scripted_engine(*turns)) as app:
        await app.client.post("/v1/interleaved", json={"input": "a"})
        await app.client.post("/v1/interleaved", json={"input": "a"})
        leaving = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        assert len(app.service.admission._places) == 1
        leaving.cancel()
        await app.client.post("/v1/interleaved", json={"input": "long " * 1000})
        await until(lambda: not app.service.admission._places)


async def test_those_in_line_are_refused_when_the_server_is_told_to_stop() -> None:
    gate = Gate()
    async with in_memory(scripted_engine([gate, EOS]), admission={"max_running": 1}) as app:
        await app.ready()
        first = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        second = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "b"}))
        await until(lambda: len(app.service.admission._line) == 1)
        draining = asyncio.create_task(app.service.drain(grace_s=20))
        refused = await second
        gate.open()
        await draining
        finished = await first

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_draining")
    assert finished.status_code == 200


async def test_a_dead_engine_is_told_before_anything_is_sent(running: Running) -> None:
    running.engine.dead = True
    response = await running.client.post("/v1/interleaved", json={"input": "a", "stream": True})

    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_failed")


async def test_openais_client_takes_it_for_what_it_is() -> None:
    async with on_socket() as app:
        app.pool.current_load = BUSY
        client = AsyncOpenAI(base_url=f"{app.client.base_url}/v1", api_key="none", max_retries=0)
        with pytest.raises(RateLimitError) as refused:
            await client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "a"}])

    assert refused.value.code == "overloaded"


@pytest.mark.parametrize("path", ["/v1/interleaved", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("on_overload", ["wait", "skip", "fail"])
async def test_an_answer_does_as_its_request_says_when_the_pool_has_fallen_behind(path: str, on_overload: str) -> None:
    gate = Gate()
    engine = ScriptedEngine([[EOS], ["Look: ", gate, DREAM], ["The end.", EOS]])
    async with in_memory(engine, admission={"behind_s": 50}) as app:
        await app.ready()
        body = {**REQUESTS[path](False), "images": {"on_overload": on_overload}}
        asking = asyncio.create_task(app.client.post(path, json=body))
        await gate.reached.wait()
        app.pool.current_load = replace(BUSY, seconds_ahead=51.0)
        gate.open()
        response = await asking

    drawn = len(app.pool.jobs) - 1  # without the warm-up
    assert (response.status_code, drawn) == {"wait": (200, 1), "skip": (200, 0), "fail": (503, 0)}[on_overload]
    if on_overload == "fail":
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("service_unavailable_error", "overloaded")
        assert int(response.headers["retry-after"]) > 0
    else:
        assert "The end." in response.text
        assert ("overloaded" in response.text) is (on_overload == "skip")
