"""Limits of callers as they see them: refusals before anything is read, and where they stand on every answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi.routing import APIRoute
from httpx_sse import aconnect_sse

from server.app import create_app
from server.guard.throttle import ANSWERING
from server.settings import Settings
from tests.api.asking import ALICE, BOB, bearer, keys_of_alice_and_bob
from tests.api.serving import NO_AUTH, Running, in_memory, on_socket, scripted_backend, scripted_engine, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS, Gate

ASK = {"input": "Tell me."}
TEXT_ALONE = {**ASK, "images": {"max": 0}}


def talkative() -> ScriptedEngine:
    """Says six letters, whatever it is asked."""
    return ScriptedEngine([["Hello.", EOS]], one_turn_for_all=True)


async def ask(
    app: Running, key: str = ALICE, body: dict[str, Any] = ASK, path: str = "/v1/interleaved"
) -> httpx.Response:
    return await app.client.post(path, json=body, headers=bearer(key))


async def charged(app: Running) -> None:
    """Return when what the documents took is counted."""
    await until(lambda: not app.service.documents)
    await asyncio.gather(*app.service.rate_limits._charges)


def rate_headers(response: httpx.Response) -> dict[str, str]:
    return {
        name.removeprefix("x-ratelimit-"): value
        for name, value in response.headers.items()
        if name.startswith("x-ratelimit-")
    }


async def test_every_answer_tells_its_caller_how_he_stands(tmp_path: Path) -> None:
    auth = keys_of_alice_and_bob(
        tmp_path, "requests_per_minute = 10", "tokens_per_minute = 5000", "images_per_minute = 4"
    )
    async with in_memory(talkative(), auth=auth) as app:
        await app.ready()
        first = await ask(app)
        await charged(app)
        second = await ask(app, body={**ASK, "stream": True})
        wrong = await ask(app, body={"inputs": "a mistake"})
        of_bob = await ask(app, BOB)

    told, usage = rate_headers(first), first.json()["usage"]
    assert {name: told[name] for name in told if "reset" not in name} == {
        "limit-requests": "10",
        "remaining-requests": "9",
        "limit-tokens": "5000",
        "remaining-tokens": "5000",
        "limit-images": "4",
        "remaining-images": "4",
    }
    assert 0 < float(told["reset-requests"].removesuffix("s")) <= 60
    told = rate_headers(second)
    assert (told["remaining-requests"], told["remaining-tokens"]) == ("8", str(5000 - usage["total_tokens"]))
    assert (wrong.status_code, rate_headers(wrong)["remaining-requests"]) == (400, "7")
    assert rate_headers(of_bob) == {}


async def test_one_request_too_many_is_refused_before_it_is_read(tmp_path: Path) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    async with in_memory(talkative(), auth=keys_of_alice_and_bob(tmp_path, "requests_per_minute = 1")) as app:
        await app.ready()
        await ask(app)
        made = len(app.engine.calls)
        refused = await app.client.post("/v1/interleaved", content=body(), headers=bearer(ALICE))
        of_bob = await ask(app, BOB)

    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert rate_headers(refused)["remaining-requests"] == "0"
    assert read == 0
    assert made == len(app.engine.calls) - 1
    assert of_bob.status_code == 200


async def test_the_surfaces_are_counted_together(tmp_path: Path) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Tell me."}]},
        "/v1/responses": ASK,
        "/v1/images/generations": {"prompt": "A star."},
        "/v1/interleaved": ASK,
    }
    async with in_memory(talkative(), auth=keys_of_alice_and_bob(tmp_path, "requests_per_minute = 4")) as app:
        await app.ready()
        answers = [await ask(app, body=body, path=path) for path, body in bodies.items()]
        refused = [await ask(app, body=body, path=path) for path, body in bodies.items()]

    assert bodies.keys() == ANSWERING
    assert [rate_headers(answer)["remaining-requests"] for answer in answers] == ["3", "2", "1", "0"]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.status_code for answer in refused] == [429] * 4


def test_no_route_that_begins_an_answer_is_forgotten() -> None:
    app = create_app(Settings(auth=NO_AUTH), scripted_backend(scripted_engine(), ScriptedPool()))  # type: ignore[arg-type]
    posts = {route.path for route in app.routes if isinstance(route, APIRoute) and "POST" in route.methods}

    assert {path for path in posts if not path.endswith("/cancel")} == ANSWERING


async def test_reading_ending_and_deleting_are_not_limited(tmp_path: Path) -> None:
    auth = keys_of_alice_and_bob(tmp_path, "requests_per_minute = 1")
    async with in_memory(talkative(), auth=auth) as app:
        await app.ready()
        document = (await ask(app, body={**ASK, "store": True})).json()
        path = f"/v1/interleaved/{document['id']}"
        assert (await ask(app)).status_code == 429
        for method, rest in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("DELETE", "")):
            response = await app.client.request(method, path + rest, headers=bearer(ALICE))
            assert (response.status_code, rate_headers(response)) == (200, {})


async def test_tokens_that_are_used_up_refuse_the_next_request(tmp_path: Path) -> None:
    async with in_memory(talkative(), auth=keys_of_alice_and_bob(tmp_path, "tokens_per_minute = 1")) as app:
        await app.ready()
        first = await ask(app)  # goes over, for how long it gets nobody knows
        await charged(app)
        second = await ask(app)

    assert (first.status_code, second.status_code) == (200, 429)
    assert "1 tokens a minute" in second.json()["error"]["message"]


async def test_an_answer_that_is_left_is_counted_as_far_as_it_was_made(tmp_path: Path) -> None:
    gate = Gate()
    auth = keys_of_alice_and_bob(tmp_path, "tokens_per_minute = 5000")
    async with on_socket(scripted_engine(["Hello.", gate], [EOS]), auth=auth) as app:
        stream = aconnect_sse(
            app.client, "POST", "/v1/interleaved", json={**ASK, "stream": True}, headers=bearer(ALICE)
        )
        async with stream as source:
            async for event in source.aiter_sse():
                if event.event == "text.delta":
                    break
            await gate.reached.wait()
        await charged(app)
        told = rate_headers(await ask(app))

    prompt = len(app.engine.calls[1].prompt.token_ids)
    assert int(told["remaining-tokens"]) == 5000 - prompt - len("Hello.")


async def test_pictures_that_are_used_up_refuse_pictures_and_not_text(tmp_path: Path) -> None:
    engine = scripted_engine(["", DREAM], [EOS], ["Hello.", EOS])
    async with in_memory(engine, auth=keys_of_alice_and_bob(tmp_path, "images_per_minute = 1")) as app:
        await app.ready()
        drawn = await ask(app)
        await charged(app)
        refused = await ask(app)
        text = await ask(app, body=TEXT_ALONE)

    assert drawn.json()["usage"]["images"] == 1
    assert refused.status_code == 429
    assert "1 images a minute" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) > 1
    assert text.status_code == 200
    assert rate_headers(text)["remaining-images"] == "0"


@pytest.mark.parametrize("stored", [False, True])
async def test_answers_at_one_time_are_limited_also_those_that_nobody_reads(tmp_path: Path, stored: bool) -> None:
    gate = Gate()
    engine = scripted_engine(["Once", gate, EOS], ["Hello.", EOS], ["Hello.", EOS])
    async with on_socket(engine, auth=keys_of_alice_and_bob(tmp_path, "streams = 1")) as app:
        body = {**ASK, "stream": True, "store": stored}
        async with aconnect_sse(app.client, "POST", "/v1/interleaved", json=body, headers=bearer(ALICE)) as source:
            assert source.response.status_code == 200
            await gate.reached.wait()
            while_it_is_read = await ask(app)
        if stored:
            while_nobody_reads = await ask(app)
            assert while_nobody_reads.status_code == 429
        of_bob = await ask(app, BOB)
        gate.open()
        await charged(app)
        afterwards = await ask(app)

    assert while_it_is_read.status_code == 429
    assert while_it_is_read.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(while_it_is_read.headers["retry-after"]) >= 1
    assert (of_bob.status_code, afterwards.status_code) == (200, 200)


async def test_a_request_that_cannot_begin_leaves_its_place(tmp_path: Path) -> None:
    engine = ScriptedEngine([["Hello.", EOS]], one_turn_for_all=True, max_model_len=64)
    async with in_memory(engine, auth=keys_of_alice_and_bob(tmp_path, "streams = 1")) as app:
        await app.ready()
        for _ in range(3):
            assert (await ask(app, body={"input": "word " * 100})).status_code == 400

        assert (await ask(app)).status_code == 200


async def test_the_openai_client_knows_the_refusal(tmp_path: Path) -> None:
    async with in_memory(talkative(), auth=keys_of_alice_and_bob(tmp_path, "requests_per_minute = 1")) as app:
        await app.ready()
        options: dict[str, Any] = {"base_url": "http://dreamserve/v1", "http_client": app.client, "max_retries": 0}
        client = openai.AsyncOpenAI(api_key=ALICE, **options)
        await client.responses.create(input="Tell me.", model="scripted")
        with pytest.raises(openai.RateLimitError) as refused:
            await client.responses.create(input="Tell me.", model="scripted")

    assert refused.value.code == "rate_limit_exceeded"


async def test_refusals_are_measured(tmp_path: Path) -> None:
    async with in_memory(talkative(), auth=keys_of_alice_and_bob(tmp_path, "requests_per_minute = 1")) as app:
        await app.ready()

        async def refused() -> float:
            lines = (await app.client.get("/metrics", headers=bearer(BOB))).text.splitlines()
            [line] = [line for line in lines if line.startswith('dreamserve_rate_limited_total{resource="requests"}')]
            return float(line.split()[1])

        before = await refused()
        for _ in range(3):
            await ask(app)

        assert await refused() == before + 2
