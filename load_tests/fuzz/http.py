"""HTTP/1.1 by hand: a client that can send what no client should, on a connection of its own."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import h11

READ_BYTES = 65536
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as its bytes will be.

    Attributes:
        number: in the run; with its seed it says all else.
        operation: what it is a request for, such as ``"POST /v1/interleaved"``.
        method: as it is written.
        target: path and query.
        headers: all of them; a ``Content-Length`` is not added.
        body: of the request.
        is_http: whether this is a request at all; what is none may also be cut off without an answer.
        leaves_after_s: its caller hangs up then, answered or not; None if he does not.
        mutations: what was done to it.
    """

    number: int
    operation: str
    method: bytes
    target: bytes
    headers: Headers
    body: bytes = field(repr=False)
    is_http: bool = True
    leaves_after_s: float | None = None
    mutations: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """What goes over the wire."""
        head = b"".join(name + b": " + value + b"\r\n" for name, value in self.headers)
        return self.method + b" " + self.target + b" HTTP/1.1\r\n" + head + b"\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Response:
    """What came back.

    Attributes:
        status: of it.
        headers: by their names in lower case.
        body: as far as it came.
        is_whole: whether that is all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool

    @property
    def media_type(self) -> str:
        """Of the body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0]


async def exchange(host: str, port: int, request: Request) -> Response | None:
    """Send a request and read its response; None when the server closes the connection without one.

    Raises:
        h11.RemoteProtocolError: the response is no HTTP.
        OSError: the server cannot be reached.
    """
    reader, writer = await asyncio.open_connection(host, port)
    sending = asyncio.create_task(_send(writer, request.encoded()))
    try:
        async with asyncio.timeout(request.leaves_after_s):
            return await _receive(reader, is_head=request.method == b"HEAD")
    except TimeoutError:
        return None
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(ConnectionError):  # a server may answer before it has read everything, and close
        writer.write(data)
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """What comes next; nothing when the connection is over, however it ended."""
    with suppress(ConnectionError):
        return await reader.read(READ_BYTES)
    return b""


async def _receive(reader: asyncio.StreamReader, *, is_head: bool) -> Response | None:
    connection = h11.Connection(h11.CLIENT)
    # h11 reads no response without a request, and would not send most of ours.
    connection.send(h11.Request(method="HEAD" if is_head else "GET", target="/", headers=[("Host", "any")]))
    connection.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = bytearray()
    more = True
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            if more:
                raise
            return _response(head, body, is_whole=False)
        if event is h11.NEED_DATA:
            received = await _read(reader)
            more = bool(received)
            connection.receive_data(received)
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return _response(head, body, is_whole=True)
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return _response(head, body, is_whole=False)


def _response(head: h11.Response | None, body: bytearray, *, is_whole: bool) -> Response | None:
    if head is None:
        return None
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
    return Response(head.status_code, headers, bytes(body), is_whole)
