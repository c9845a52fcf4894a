"""The client of the benchmarks sees every event, however the network cuts the response, and no broken one is whole."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from load_tests.streams import stream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"data: one\n\n: keep-alive\n\ndata: two\n\ndata: [DONE]\n\n"


def label(event: bytes) -> str | None:
    return event.removeprefix(b"data: ").decode() if event.startswith(b"data: ") else None


@asynccontextmanager
async def answering(pieces: Sequence[bytes]) -> AsyncIterator[str]:
    """A server that answers everybody with these bytes, each in a packet of its own, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/v1/answers"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.mark.parametrize("size", [1, 7, len(BODY)])
async def test_events_are_whole_however_they_are_cut(size: int) -> None:
    chunks = [chunk(BODY[at : at + size]) for at in range(0, len(BODY), size)]
    async with answering([HEAD, *chunks, chunk(b"")]) as url:
        received = await stream(url, {}, label)
    assert received.status == 200
    assert [noted for _, noted in received.noted] == ["one", "two", "[DONE]"]
    times = [received.sent, *(at for at, _ in received.noted), received.ended]
    assert times == sorted(times)


async def test_a_refusal_has_a_status_and_no_events() -> None:
    async with answering([b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}"]) as url:
        received = await stream(url, {}, label)
    assert (received.status, received.noted) == (429, [])


async def test_a_response_that_breaks_off_is_an_error() -> None:
    async with answering([HEAD, chunk(BODY)]) as url:
        with pytest.raises(ConnectionError):
            await stream(url, {}, label)
