"""The reference gateway before real servers: it hides nothing of them, holds nothing back, and repeats nothing."""

import asyncio
import json
import re
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from server.settings import Settings
from tests.api.serving import scripted_engine
from tests.operations.gateway import REFERENCE, Gateway, connection_manager, gateway, reference
from tests.operations.listening import listening, numbers
from tests.operations.upstreams import Peer, Upstream, closed, upstream
from tests.redis_server import HOST, RedisServer
from tests.scripted.script import DREAM, EOS, Gate

BODY = {"input": "Show me.", "stream": True}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def rude() -> AsyncIterator[Peer]:
    """Takes requests and hangs up on them."""
    async with Peer(answer=b"") as peer:
        yield peer


@pytest.fixture
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of servers that share a Redis."""
    monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 20.0)  # however slow this machine is
    return {"url": redis_url, "namespace": uuid.uuid4().hex}


async def ask(door: Gateway) -> httpx.Response:
    """Send a request of the kind that must not be repeated."""
    return await door.client.post("/v1/interleaved", json={"input": "a"})


@dataclass(frozen=True)
class Story:
    """A server that tells a story and stops in the middle of it.

    Attributes:
        server: that tells it.
        gate: where it stops.
    """

    server: Upstream
    gate: Gate


@asynccontextmanager
async def story(**settings: Any) -> AsyncIterator[Story]:
    """A server that goes on taking requests when it is told to stop, until it is drained."""
    gate = Gate()
    engine = scripted_engine(["Once", gate, " upon", EOS])
    async with upstream(engine, server={"shutdown_delay_s": 600, "shutdown_grace_s": 600}, **settings) as server:
        yield Story(server, gate)


async def test_text_arrives_while_the_answer_is_still_running(tmp_path: Path) -> None:
    async with (
        story() as told,
        gateway(tmp_path, told.server.address) as door,
        listening(door.client, "POST", "/v1/interleaved", json=BODY) as listener,
    ):
        await listener.hear(lambda: listener.text == "Once")
        at_work = len(told.server.service.documents)
        told.gate.open()
        events = await listener.hear_all()

    assert at_work == 1
    assert listener.text == "Once upon"
    assert events[-1].event == "document.completed"


async def test_a_stream_that_breaks_goes_on_through_another_server(tmp_path: Path, redis: dict[str, Any]) -> None:
    async with (
        story(redis=redis) as one,
        story(redis=redis) as two,
        gateway(tmp_path, one.server.address, two.server.address) as door,
    ):
        async with listening(door.client, "POST", "/v1/interleaved", json={**BODY, "store": True}) as listener:
            await listener.hear(lambda: listener.text == "Once")
            path = f"/v1/interleaved/{listener.source.response.headers['x-document-id']}"
        before = listener.events
        maker, other = (one, two) if one.server.service.documents else (two, one)
        maker.server.terminate()
        await door.sends_to(other.server.address)
        resume = {"params": {"stream": True}, "headers": {"Last-Event-ID": before[-1].id}}
        async with listening(door.client, "GET", path, **resume) as listener:
            maker.gate.open()
            after = await listener.hear_all()

    assert numbers(before + after) == list(range(len(before + after)))
    assert listener.text == " upon"
    assert after[-1].event == "document.completed"


async def ask_until_only(server: Upstream, door: Gateway) -> list[httpx.Response]:
    """Ask until one server alone answers: Envoy's worker hears who is healthy a moment after its admin page does."""
    responses: list[httpx.Response] = []
    in_a_row = 0
    while in_a_row < 64:  # its choice between two is random, and prefers the idle one
        before = len(server.engine.calls)
        responses.append(await ask(door))
        in_a_row = in_a_row + 1 if len(server.engine.calls) > before else 0
    return responses


async def test_a_server_that_leaves_loses_nothing(tmp_path: Path) -> None:
    async with (
        story() as one,
        story() as two,
        gateway(tmp_path, one.server.address, two.server.address) as door,
        listening(door.client, "POST", "/v1/interleaved", json=BODY) as listener,
    ):
        await listener.hear(lambda: listener.text == "Once")
        leaving, staying = (one, two) if one.server.service.documents else (two, one)
        staying.gate.open()
        leaving.server.terminate()
        unnoticed = [await ask(door) for _ in range(8)]
        await door.sends_to(staying.server.address)
        unnoticed += await ask_until_only(staying.server, door)
        draining = asyncio.create_task(leaving.server.service.drain(grace_s=600))  # the delay is over
        answered = len(staying.server.engine.calls)
        noticed = [await ask(door) for _ in range(8)]
        answered = len(staying.server.engine.calls) - answered
        leaving.gate.open()
        events = await listener.hear_all()
        await asyncio.gather(draining, leaving.server.serving)
        gone = [await ask(door) for _ in range(8)]

    assert {response.status_code for response in unnoticed + noticed + gone} == {200}
    assert answered == 8
    assert numbers(events) == list(range(len(events)))
    assert listener.text == "Once upon"
    assert events[-1].event == "document.completed"


async def test_a_request_that_reached_a_server_is_not_sent_again(tmp_path: Path, rude: Peer) -> None:
    async with Peer(answer=b"") as another, gateway(tmp_path, rude.address, another.address) as door:
        response = await ask(door)

    assert len(rude.requests + another.requests) == 1
    assert response.status_code == 503
    assert_openai_error(response, code="gateway_unavailable")


async def test_a_request_that_only_reads_is_sent_to_another_server(tmp_path: Path, rude: Peer) -> None:
    async with upstream() as server, gateway(tmp_path, rude.address, server.address) as door:
        responses = []
        while not rude.requests:
            responses.append(await door.client.get("/v1/models"))

    assert {response.status_code for response in responses} == {200}


async def test_a_request_that_could_not_be_sent_is_sent_to_another_server(tmp_path: Path, peer: Peer) -> None:
    async with upstream() as server:
        unreachable = closed(peer)
        async with gateway(tmp_path, unreachable, server.address) as door:
            responses = [await ask(door) for _ in range(16)]
            clusters = (await door.admin.get("/clusters")).text

    assert {response.status_code for response in responses} == {200}
    failures = re.search(rf"{HOST}:{unreachable.port}::cx_connect_fail::(\d+)", clusters)
    assert failures is not None
    assert int(failures[1]) > 0


async def test_a_body_of_the_limit_passes_and_one_byte_more_is_refused_as_the_server_would(tmp_path: Path) -> None:
    async with upstream() as server, gateway(tmp_path, server.address) as door:
        limit = server.service.settings.limits.body_bytes
        largest = json.dumps({"input": "a"}).encode().ljust(limit)
        json_type = {"Content-Type": "application/json"}
        accepted = await door.client.post("/v1/interleaved", content=largest, headers=json_type)
        refused = await door.client.post("/v1/interleaved", content=largest + b" ", headers=json_type)
        in_pieces = await door.client.post("/v1/interleaved", content=pieces(largest + b" "), headers=json_type)
        async with httpx.AsyncClient(base_url=server.address.url, timeout=60) as direct:
            by_the_server = await direct.post("/v1/interleaved", content=pieces(largest + b" "), headers=json_type)

    assert accepted.status_code == 200
    assert refused.status_code == in_pieces.status_code == by_the_server.status_code == 413
    assert refused.json() == in_pieces.json() == by_the_server.json()
    assert len(server.engine.calls) == 2, "the warm-up and the one that was accepted"


async def test_it_speaks_nothing_but_tls(tmp_path: Path) -> None:
    async with upstream() as server, gateway(tmp_path, server.address) as door:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://{HOST}:{door.port}/v1/models")
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"https://{HOST}:{door.port}/v1/models")
        response = await door.client.get("/v1/models")

    assert response.headers["strict-transport-security"]


async def test_what_a_caller_says_of_a_request_arrives_and_what_he_says_of_himself_does_not(
    tmp_path: Path, peer: Peer
) -> None:
    headers = {"X-Request-Id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "traceparent": TRACEPARENT}
    spoofed = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    async with gateway(tmp_path, peer.address) as door:
        await door.client.get("/v1/models", headers={**headers, **spoofed})
        await door.client.get("/v1/models")
    named, unnamed = (dict(line.split(": ", 1) for line in head.splitlines()[1:] if line) for head in peer.requests)

    assert named["x-request-id"] == headers["X-Request-Id"]
    assert named["traceparent"] == TRACEPARENT
    assert named["x-forwarded-for"].split(",")[-1] != spoofed["X-Forwarded-For"]
    assert named["x-forwarded-proto"] == "https"
    assert uuid.UUID(unnamed["x-request-id"])


async def test_links_to_pictures_lead_through_it(tmp_path: Path) -> None:
    async with upstream(scripted_engine([DREAM], [EOS])) as server, gateway(tmp_path, server.address) as door:
        body = {"input": "a", "images": {"delivery": "url"}}
        parts = (await door.client.post("/v1/interleaved", json=body)).json()["parts"]
        link = next(part["image"]["url"] for part in parts if part["type"] == "image")
        picture = await door.client.get(link)

    assert link.startswith(f"https://{HOST}:{door.port}/")
    assert picture.headers["content-type"] == "image/png"


async def test_what_is_for_operators_cannot_be_reached(tmp_path: Path, peer: Peer) -> None:
    paths = ["/health", "/health/ready", "/metrics", "//metrics", "/v1/../metrics", "/%6detrics", "/metrics?a=b"]
    async with gateway(tmp_path, peer.address) as door:
        answers = [await status_line(door, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n") for path in paths]

    assert answers == ["HTTP/1.1 404 Not Found"] * len(paths)
    assert peer.requests == []


async def test_without_a_server_there_is_an_error_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with upstream(server={"shutdown_delay_s": 600}) as server, gateway(tmp_path, server.address) as door:
        server.terminate()
        await door.sends_to()
        response = await ask(door)

    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.headers["x-request-id"]
    assert_openai_error(response, code="gateway_unavailable")


def test_its_limits_fit_those_of_the_servers() -> None:
    settings = Settings()
    config = reference()
    requests, servers = connection_manager(config), config["static_resources"]["clusters"][0]
    buffer = requests["http_filters"][0]["typed_config"]
    pictures_s = settings.limits.images * settings.limits.image_timeout_s
    to_servers = [
        route["route"] for route in requests["route_config"]["virtual_hosts"][0]["routes"] if "route" in route
    ]
    of_connections = next(iter(servers["typed_extension_protocol_options"].values()))["common_http_protocol_options"]

    assert buffer["max_request_bytes"] == settings.limits.body_bytes
    assert f"more than {settings.limits.body_bytes} bytes" in REFERENCE.read_text()
    assert len(to_servers) == 2
    assert all(seconds(route["timeout"]) > pictures_s for route in to_servers)
    assert seconds(requests["stream_idle_timeout"]) > pictures_s
    assert seconds(requests["request_timeout"]) == settings.server.body_timeout_s
    assert seconds(requests["request_headers_timeout"]) == settings.server.header_timeout_s
    assert seconds(of_connections["idle_timeout"]) < uvicorn.Config("app").timeout_keep_alive


def assert_openai_error(response: httpx.Response, *, code: str) -> None:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (None, code)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not told."""
    for begin in range(0, len(body), 2**20):
        yield body[begin : begin + 2**20]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


async def status_line(door: Gateway, request: str) -> str:
    """How the answer begins to a request whose path no client has tidied."""
    trust = ssl.create_default_context()
    door.authority.configure_trust(trust)
    reader, writer = await asyncio.open_connection(HOST, door.port, ssl=trust)
    writer.write(request.encode())
    line = await reader.readline()
    writer.close()
    return line.decode().strip()
