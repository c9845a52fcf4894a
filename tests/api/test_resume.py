"""A reader who is cut off, wherever that is, and comes back, to whichever server, has seen every event once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.serving import Listening, on_socket, scripted_engine
from tests.redis_server import RedisServer
from tests.scripted.pool import ScriptedPool, drawing
from tests.scripted.script import DREAM, EOS, Gate

BODY = {"input": "Show me.", "stream": True, "store": True, "images": {"previews": 1, "steps": 2}}
STORY = (["a", DREAM], ["b", DREAM], ["c", EOS])
EVENTS = 2 + 3 + 2 * 5
"""Beginning and end; three texts; two pictures, each with a place in line, two steps, a preview, and the picture."""


class Turnstile(Gate):
    """Lets as many through as it was told to, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed = asyncio.Semaphore(0)
        self._is_open = False

    def allow_one(self) -> None:
        """Let one more through."""
        self._allowed.release()

    def open(self) -> None:
        """Let everybody through from now on."""
        self._is_open = True
        self._allowed.release()

    async def wait(self) -> None:
        await self._allowed.acquire()
        if self._is_open:
            self._allowed.release()


@dataclass(frozen=True)
class Servers:
    """Where a document is made, and where its readers come back to.

    Attributes:
        maker: makes it.
        other: may be the same.
        turnstile: before everything that the model and the pool do.
    """

    maker: Listening
    other: Listening
    turnstile: Turnstile


@pytest.fixture(params=["memory", "redis", "redis and another server"])
async def servers(
    request: pytest.FixtureRequest, redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Servers]:
    """One server, without and with Redis, and two that share one."""
    monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 20.0)  # however slow this machine is
    turnstile = Turnstile()
    engine = scripted_engine(*(paced(turn, turnstile) for turn in STORY))
    pool = ScriptedPool([lambda job: [], *[lambda job: paced(drawing(job), turnstile)] * 2])
    redis = {} if request.param == "memory" else {"redis": {"url": redis_server.url, "namespace": namespace}}
    async with AsyncExitStack() as stack:
        maker = other = await stack.enter_async_context(on_socket(engine, pool, **redis))
        if request.param == "redis and another server":
            other = await stack.enter_async_context(on_socket(**redis))
        stack.callback(turnstile.open)
        yield Servers(maker, other, turnstile)


def paced(script: Sequence[Any], turnstile: Turnstile) -> list[Any]:
    """A script that waits before each of its items."""
    return [item for step in script for item in (turnstile, step)]


class Frames:
    """The server-sent events of a response, as they come.

    Args:
        response: that is being received.
        turnstile: lets the model go on when there is nothing to read.
    """

    def __init__(self, response: httpx.Response, turnstile: Turnstile) -> None:
        self._lines = response.aiter_lines()
        self._turnstile = turnstile

    async def take(self) -> str | None:
        """The next one; None at the end of the stream."""
        reading = asyncio.create_task(self._read())
        while not reading.done():
            self._turnstile.allow_one()
            await asyncio.wait([reading], timeout=0.01)
        return reading.result()

    async def take_all(self) -> list[str]:
        """All that are still to come."""
        frames: list[str] = []
        while (frame := await self.take()) is not None:
            frames.append(frame)
        return frames

    async def _read(self) -> str | None:
        lines: list[str] = []
        async for line in self._lines:
            if line:
                lines.append(line)
            elif lines:
                return "\n".join(lines)
        return None


@asynccontextmanager
async def stream(servers: Servers, client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    """A stream of events, which is cut at the end of the block."""
    async with client.stream(method, path, **options) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        yield response.headers["x-document-id"], Frames(response, servers.turnstile)


def numbers(frames: Sequence[str]) -> list[int]:
    return [int(line.removeprefix("id: ")) for frame in frames for line in frame.split("\n") if line.startswith("id:")]


@pytest.mark.parametrize("seen", range(EVENTS + 1))
async def test_a_reader_who_is_cut_off_gets_the_rest(servers: Servers, seen: int) -> None:
    async with stream(servers, servers.maker.client, "POST", "/v1/interleaved", json=BODY) as (document_id, frames):
        before = [await frames.take() for _ in range(seen)]
    path = f"/v1/interleaved/{document_id}"
    after = {"starting_after": seen - 1} if seen else {}
    async with stream(servers, servers.other.client, "GET", path, params={"stream": True, **after}) as (_, frames):
        rest = await frames.take_all()
    everything = []
    for server in (servers.maker, servers.other):
        async with stream(servers, server.client, "GET", path, params={"stream": True}) as (_, frames):
            everything.append(await frames.take_all())

    assert numbers(before + rest) == list(range(EVENTS))
    assert everything == [before + rest] * 2


async def test_a_reader_who_is_cut_off_after_every_event_sees_each_once(servers: Servers) -> None:
    async with stream(servers, servers.maker.client, "POST", "/v1/interleaved", json=BODY) as (document_id, frames):
        taken = [await frames.take()]
    path, clients = f"/v1/interleaved/{document_id}", [servers.other.client, servers.maker.client]
    while len(taken) < EVENTS:
        headers = {"Last-Event-ID": str(numbers(taken)[-1])}
        client = clients[len(taken) % 2]
        async with stream(servers, client, "GET", path, params={"stream": True}, headers=headers) as (_, frames):
            taken.append(await frames.take())
    async with stream(servers, servers.maker.client, "GET", path, params={"stream": True}) as (_, frames):
        everything = await frames.take_all()

    assert numbers(taken) == list(range(EVENTS))
    assert everything == taken
    assert servers.maker.service.documents == set()
