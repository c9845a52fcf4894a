"""Who has no key gets nothing, who has one gets what is his, and no key is ever written down."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from server.guard.keys import digest_of, new_key
from tests.api.asking import ALICE, BOB, bearer, keys_of_alice_and_bob
from tests.api.serving import Running, in_memory, on_socket, scripted_engine
from tests.redis_server import RedisServer
from tests.scripted.engine import ScriptedEngine
from tests.scripted.script import DREAM, EOS

STORED = {"input": "Tell me.", "store": True}
CHAT = {"messages": [{"role": "user", "content": "Tell me."}], "store": True}


@pytest.fixture
def auth(tmp_path: Path) -> dict[str, Any]:
    return keys_of_alice_and_bob(tmp_path)


@pytest_asyncio.fixture
async def asking(auth: dict[str, Any]) -> AsyncIterator[Running]:
    """An app in memory that knows Alice and Bob, whose model says one sentence."""
    async with in_memory(ScriptedEngine([["Hello.", EOS]], one_turn_for_all=True), auth=auth) as app:
        await app.ready()
        yield app


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": ALICE}, "Bearer"),
        ({"Authorization": f"Basic {ALICE}"}, "Bearer"),
        ({"Authorization": "Bearer "}, "Bearer"),
        ({"X-API-Key": ALICE}, "Bearer"),
        (bearer(new_key()), 'Bearer error="invalid_token"'),
        (bearer(ALICE[:-1]), 'Bearer error="invalid_token"'),
        (bearer(ALICE + "x"), 'Bearer error="invalid_token"'),
        ({"Authorization": b"Bearer \xff\xfe"}, 'Bearer error="invalid_token"'),
    ],
)
async def test_who_has_no_key_is_refused_as_openai_refuses_him(
    asking: Running, header: dict[str, Any], challenge: str
) -> None:
    before = len(asking.engine.calls)
    response = await asking.client.post("/v1/interleaved", json=STORED, headers=header)

    assert response.status_code == 401
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")
    assert ALICE[:8] not in response.text
    assert response.headers["www-authenticate"] == challenge
    assert response.headers["x-request-id"]
    assert len(asking.engine.calls) == before


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_who_has_a_key_is_answered(asking: Running, scheme: str) -> None:
    response = await asking.client.post("/v1/interleaved", json=STORED, headers={"Authorization": scheme + ALICE})

    assert response.status_code == 200


async def test_of_a_request_without_a_key_nothing_is_read_but_its_headers(asking: Running) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(1000)

    response = await asking.client.post("/v1/interleaved", content=body())

    assert response.status_code == 401
    assert read == 0


async def test_a_large_request_without_a_key_is_told_so_over_a_connection(auth: dict[str, Any]) -> None:
    async with on_socket(auth=auth) as app:
        response = await app.client.post("/v1/interleaved", content=bytes(20_000_000))

        assert response.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/playground/js/main.js",
        "/health",
        "/health/started",
        "/health/live",
        "/health/ready",
        "/docs",
        "/openapi.json",
    ],
)
async def test_what_tells_nothing_of_the_server_needs_no_key(asking: Running, path: str) -> None:
    assert (await asking.client.get(path)).status_code == 200


async def test_the_root_path_of_a_proxy_makes_no_difference(auth: dict[str, Any]) -> None:
    async with in_memory(auth=auth, server={"root_path": "/dream"}) as app:
        await app.ready()
        statuses = {
            path: (await app.client.get(path)).status_code
            for path in ("/dream/", "/dream/health", "/health", "/dream/v1/models", "/v1/models", "/dreamhealth")
        }

    assert statuses == {
        "/dream/": 200,
        "/dream/health": 200,
        "/health": 200,
        "/dream/v1/models": 401,
        "/v1/models": 401,
        "/dreamhealth": 401,
    }


@pytest.mark.parametrize("path", ["/metrics", "/v1/models", "/v1/models/scripted", "/nowhere", "/v1/files", "/v1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "OPTIONS"])
async def test_all_else_needs_one_also_what_is_not_there(asking: Running, method: str, path: str) -> None:
    assert (await asking.client.request(method, path)).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/health/../v1/models",
        "/playground/../v1/models",
        "/v1/files/images/../../models",
        "//v1/models",
        "/v1//models",
        "/V1/models",
        "/health/live/../../v1/models",
        "/v1/models/",
        "/v1/models\x00",
        "/\x00/health",
    ],
)
async def test_no_way_of_writing_a_path_leads_past_the_check(asking: Running, path: str) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    transport = asking.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app({**scope, "http_version": "1.1", "server": ("dreamserve", 80), "scheme": "http"}, receive, send)

    assert sent[0]["status"] in (401, 404)
    assert not any(b"max_model_len" in message.get("body", b"") for message in sent)


async def test_a_picture_is_shown_to_whoever_has_its_address(auth: dict[str, Any]) -> None:
    async with in_memory(scripted_engine(["", DREAM], [EOS]), auth=auth) as app:
        await app.ready()
        body = {"input": "Draw.", "images": {"delivery": "url"}}
        document = (await app.client.post("/v1/interleaved", json=body, headers=bearer(ALICE))).json()
        [url] = [part["image"]["url"] for part in document["parts"] if part["type"] == "image"]
        seen = await app.client.get(url)
        guessed = await app.client.get(url[:-4] + "0000")

    assert seen.status_code == 200
    assert guessed.status_code == 404


async def test_a_browser_may_ask_beforehand_whether_it_may_ask(auth: dict[str, Any]) -> None:
    origin = "https://pages.example"
    async with in_memory(auth=auth, server={"allowed_origins": [origin]}) as app:
        await app.ready()
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = await app.client.options("/v1/interleaved", headers={"Origin": origin, **asked})
        refused = await app.client.post("/v1/interleaved", json=STORED, headers={"Origin": origin})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == origin  # or the page could not read why


async def test_the_openai_client_knows_the_refusal(asking: Running) -> None:
    options: dict[str, Any] = {"base_url": "http://dreamserve/v1", "http_client": asking.client, "max_retries": 0}
    with pytest.raises(openai.AuthenticationError) as refused:
        await openai.AsyncOpenAI(api_key="wrong", **options).responses.create(input="Tell me.", model="scripted")
    answered = await openai.AsyncOpenAI(api_key=BOB, **options).responses.create(input="Tell me.", model="scripted")

    assert refused.value.code == "invalid_api_key"
    assert answered.output_text == "Hello."


async def test_no_log_holds_a_key(auth: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    wrong = new_key()
    with caplog.at_level(logging.DEBUG):
        async with on_socket(scripted_engine(["a", EOS], [ValueError("a defect")]), auth=auth) as app:
            for key in (ALICE, wrong, ALICE):
                await app.client.post("/v1/interleaved", json={"input": "a"}, headers=bearer(key))

    logged = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]  # the client's
    lines = "\n".join(logging.Formatter().format(record) for record in logged)
    assert "POST /v1/interleaved 401" in lines
    for key in (ALICE, BOB, wrong):
        assert key not in lines
        assert digest_of(key.encode()).hex() not in lines


async def test_the_description_says_what_needs_a_key(asking: Running) -> None:
    description = (await asking.client.get("/openapi.json")).json()
    [(name, scheme)] = description["components"]["securitySchemes"].items()
    operations = {
        (method, path): operation["security"]
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }

    assert scheme == {"type": "http", "scheme": "bearer"}
    assert {path for (_, path), security in operations.items() if not security} == {
        "/health",
        "/health/started",
        "/health/live",
        "/health/ready",
        "/v1/files/images/{image_id}",
    }
    assert operations["post", "/v1/chat/completions"] == [{name: []}]


@pytest.mark.parametrize(
    ("path", "body", "below"),
    [
        ("/v1/interleaved", STORED, ("GET", "GET ?stream=true", "POST /cancel", "DELETE")),
        ("/v1/responses", STORED, ("GET", "GET ?stream=true", "GET /input_items", "POST /cancel", "DELETE")),
        ("/v1/chat/completions", CHAT, ("GET", "DELETE")),
    ],
)
async def test_what_is_stored_is_there_for_its_caller_and_for_nobody_else(
    asking: Running, path: str, body: dict[str, Any], below: tuple[str, ...]
) -> None:
    stored = (await asking.client.post(path, json=body, headers=bearer(ALICE))).json()["id"]
    answers = {}
    for key in (BOB, ALICE):
        for operation in below:
            method, _, rest = operation.partition(" ")
            answers[key, operation] = await asking.client.request(method, f"{path}/{stored}{rest}", headers=bearer(key))

    assert [answers[ALICE, operation].status_code for operation in below] == [200] * len(below)
    for operation in below:
        assert answers[BOB, operation].status_code == 404
        assert answers[BOB, operation].json()["error"]["code"] == "document_not_found"


async def test_nobody_goes_on_from_the_response_of_another(asking: Running) -> None:
    first = (await asking.client.post("/v1/responses", json=STORED, headers=bearer(ALICE))).json()
    reference = [{"type": "item_reference", "id": first["output"][0]["id"]}]
    ways: list[dict[str, Any]] = [{"input": "And?", "previous_response_id": first["id"]}, {"input": reference}]
    for body in ways:
        of_alice = await asking.client.post("/v1/responses", json=body, headers=bearer(ALICE))
        of_bob = await asking.client.post("/v1/responses", json=body, headers=bearer(BOB))

        assert of_alice.status_code == 200
        assert of_bob.status_code == 400
        assert of_bob.json()["error"]["code"] == "previous_response_not_found"
        assert "Hello" not in of_bob.text


async def test_a_document_is_its_callers_on_every_server(
    auth: dict[str, Any], redis_server: RedisServer, namespace: str
) -> None:
    redis = {"url": redis_server.url, "namespace": namespace}
    async with in_memory(scripted_engine(["Hello.", EOS]), auth=auth, redis=redis) as maker:
        await maker.ready()
        async with in_memory(auth=auth, redis=redis) as other:
            await other.ready()
            made = await maker.client.post("/v1/interleaved", json=STORED, headers=bearer(ALICE))
            path = f"/v1/interleaved/{made.json()['id']}"
            statuses = [(await other.client.get(path, headers=bearer(key))).status_code for key in (BOB, ALICE)]
            kept_from_bob = await other.client.delete(path, headers=bearer(BOB))
            deleted = await other.client.delete(path, headers=bearer(ALICE))

    assert statuses == [404, 200]
    assert (kept_from_bob.status_code, deleted.status_code) == (404, 200)
