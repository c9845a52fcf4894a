"""Servers that share a Redis and lose each other: whoever reads a stored document can read it to an end."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from server.interleave.journal.base import StoredDocument
from tests.api.serving import on_socket, scripted_engine, until
from tests.redis_server import RedisServer
from tests.scripted.script import EOS, Gate

BODY = {"input": "Show me.", "stream": True, "store": True}


@pytest.fixture
def redis(redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of servers that share a Redis."""
    monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 20.0)  # however slow this machine is
    return {"url": redis_server.url, "namespace": namespace, "lease_s": 0.6}


async def begin(client: httpx.AsyncClient) -> str:
    """Ask for a stored document, leave when it has begun, and return its id."""
    async with aconnect_sse(client, "POST", "/v1/interleaved", json=BODY) as source:
        async for event in source.aiter_sse():
            if event.event == "text.delta":
                break
        return source.response.headers["x-document-id"]


class Reading:
    """Reads the events of a stored document.

    Attributes:
        events: so far.
        task: done at the end of the stream.
    """

    def __init__(self, client: httpx.AsyncClient, document_id: str, **params: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._read(client, document_id, params))

    async def _read(self, client: httpx.AsyncClient, document_id: str, params: dict[str, Any]) -> None:
        path = f"/v1/interleaved/{document_id}"
        async with aconnect_sse(client, "GET", path, params={"stream": True, **params}) as source:
            async for event in source.aiter_sse():
                self.events.append(event.json())

    async def begun(self) -> None:
        """Return when there is an event."""
        await until(lambda: self.task.done() or bool(self.events))

    async def all(self) -> list[dict[str, Any]]:
        """The events, at the end of the stream."""
        await self.task
        return self.events


@asynccontextmanager
async def process_of_its_own(redis: dict[str, Any]) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server that is its own process, and its URL."""
    command = (sys.executable, "-m", "tests.api.scripted_server", redis["url"], redis["namespace"])
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_document_of_a_server_that_is_killed_ends_for_its_readers(redis: dict[str, Any]) -> None:
    async with process_of_its_own(redis) as (process, url), on_socket(redis=redis) as other:
        async with httpx.AsyncClient(base_url=url) as client:
            document_id = await begin(client)
        readings = [Reading(other.client, document_id) for _ in range(2)]
        for reading in readings:
            await reading.begun()
        process.send_signal(signal.SIGKILL)
        one, two = [await reading.all() for reading in readings]
        later = await Reading(other.client, document_id).all()
        kept = (await other.client.get(f"/v1/interleaved/{document_id}")).json()

    assert [event["sequence"] for event in one] == list(range(len(one)))
    assert one == two == later
    assert one[-1]["type"] == "document.failed"
    assert one[-1]["error"] == kept["error"]
    assert (kept["status"], kept["error"]["code"]) == ("failed", "server_lost")


async def test_a_server_that_stops_leaves_its_documents_with_an_end(redis: dict[str, Any]) -> None:
    async with on_socket(redis=redis) as other:
        async with on_socket(scripted_engine(["Once", Gate(), EOS]), redis=redis) as maker:
            document_id = await begin(maker.client)
            reading = Reading(other.client, document_id)
            await maker.service.drain(grace_s=0)
            events = await reading.all()
        later = await Reading(other.client, document_id).all()

    assert events == later
    assert events[-1]["type"] == "document.failed"
    assert events[-1]["error"]["code"] == "shutdown"
    assert events[-1]["usage"]["completion_tokens"] == len("Once")


async def test_a_server_that_stops_lets_its_readers_go_on_elsewhere(redis: dict[str, Any]) -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, " upon", EOS]), redis=redis) as maker:
        document_id = await begin(maker.client)
        async with on_socket(redis=redis) as stopping:
            reading = Reading(stopping.client, document_id)
            await reading.begun()
            await stopping.service.drain(grace_s=0)
            before = await reading.all()
        gate.open()
        after = await Reading(maker.client, document_id, starting_after=before[-1]["sequence"]).all()

    assert [event["sequence"] for event in before + after] == list(range(len(before + after)))
    assert after[-1]["type"] == "document.completed"


@pytest.mark.parametrize("surface", ["interleaved", "responses"])
async def test_a_document_that_is_deleted_as_somebody_comes_to_read_it_is_not_found(
    redis: dict[str, Any], surface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_socket(scripted_engine(["Once", EOS]), redis=redis) as maker, on_socket(redis=redis) as other:
        whole = await maker.client.post(f"/v1/{surface}", json={"input": "Show me.", "store": True})
        path, find = f"/v1/{surface}/{whole.json()['id']}", other.service.journal.stored

        async def find_and_see_deleted(document_id: str) -> StoredDocument:
            found = await find(document_id)
            await maker.client.delete(path)
            monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 0)
            return found

        monkeypatch.setattr(other.service.journal, "stored", find_and_see_deleted)
        response = await other.client.get(path, params={"stream": True})

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "document_not_found"
