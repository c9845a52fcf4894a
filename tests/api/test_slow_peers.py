"""Peers who send or read as slowly as they can are disconnected, and nothing of theirs is left."""

import asyncio
import json
from contextlib import suppress

from server.pool.base import Completed, Queued, RenderedImage
from tests.api.serving import Listening, on_socket, scripted_engine, until
from tests.scripted.pool import ScriptedPool, drawing, solid
from tests.scripted.script import DREAM, EOS

HEAD = b"POST /v1/interleaved HTTP/1.1\r\nHost: localhost\r\n"


async def connect(app: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = app.client.base_url
    return await asyncio.open_connection(url.host, url.port)


async def answer_to(app: Listening, sent: bytes) -> bytes:
    """All that the server says to what was sent, up to its closing the connection."""
    reader, writer = await connect(app)
    writer.write(sent)
    answer = b""
    with suppress(ConnectionResetError):  # the server need not have read everything
        answer = await reader.read()
    writer.close()
    return answer


async def test_headers_that_never_end_are_given_up() -> None:
    async with on_socket(server={"header_timeout_s": 0.05}) as app:
        assert await answer_to(app, b"") == b""
        assert b"400 Bad Request" in await answer_to(app, HEAD)
        await until(lambda: not app.server.server_state.connections)


async def test_what_is_no_request_is_refused_as_any_other_is() -> None:
    async with on_socket() as app:
        head, _, body = (await answer_to(app, b"BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n")).partition(
            b"\r\n\r\n"
        )

    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json\r\n" in head
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["error"]["code"] == "bad_request"


async def test_headers_that_grow_for_ever_are_given_up() -> None:
    async with on_socket() as app:
        await answer_to(app, HEAD + b"X-Long: " + b"a" * 400_000)
        await until(lambda: not app.server.server_state.connections)


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with on_socket(server={"body_timeout_s": 0.05}) as app:
        answer = await answer_to(app, HEAD + b'Content-Length: 100\r\n\r\n{"input')

    assert b"408 Request Timeout" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


async def test_a_whole_answer_that_nobody_reads_does_not_keep_its_connection() -> None:
    large = RenderedImage(bytes(16_000_000), "png", solid(64, 64, (0, 0, 0)))  # more than a socket holds
    pool = ScriptedPool([drawing, [Queued(0, None), Completed(large)]])
    async with on_socket(scripted_engine(["Look: ", DREAM], [EOS]), pool, server={"send_timeout_s": 0.1}) as app:
        body = b'{"input": "a"}'
        reader, writer = await connect(app)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await until(lambda: len(app.server.server_state.connections) == 1)
        await until(lambda: not app.server.server_state.connections)
        assert not app.service.documents
        writer.close()
        assert not reader.at_eof()
