"""A client that times server-sent events and does next to nothing else: what it costs, the server lacks."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from httptools import HttpResponseParser

SEPARATOR = b"\n\n"

Label = Callable[[bytes], str | None]
"""What an event is to be noted as; None for one that does not matter."""


@dataclass
class Stream:
    """What came back on one request. Times are those of ``time.perf_counter()``.

    Attributes:
        sent: when the request was.
        status: of the response.
        noted: times and labels of the events that matter.
        ended: when the response was complete.
    """

    sent: float
    status: int = 0
    noted: list[tuple[float, str]] = field(default_factory=list)
    ended: float = 0.0

    def times(self, label: str) -> list[float]:
        """When events of this label came."""
        return [at for at, noted in self.noted if noted == label]


async def stream(url: str, body: object, label: Label) -> Stream:
    """Post a request on a connection of its own, and time the events of its answer.

    Args:
        url: with its path, over http.
        body: becomes JSON.
        label: sees each event.

    Raises:
        ConnectionError: the server closed the connection before the response was complete.
        httptools.HttpParserError: what it sent is not HTTP.
    """
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    headers = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    headers += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(
        lambda: _Response(headers.encode() + content, label), parts.hostname or "", parts.port or 80
    )
    try:
        return await protocol.complete
    finally:
        transport.abort()


class _Response(asyncio.Protocol):
    """Sends a request, and reads the response to its end."""

    def __init__(self, request: bytes, label: Label) -> None:
        self.complete: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._request = request
        self._label = label
        self._parser = HttpResponseParser(self)
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = Stream(time.perf_counter())
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except Exception as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the server closed the connection in the middle of a response"))

    def on_body(self, body: bytes) -> None:
        """Part of the response's body."""
        *events, self._begun = (self._begun + body).split(SEPARATOR)
        for event in events:
            if (label := self._label(event)) is not None:
                self._stream.noted.append((self._now, label))

    def on_message_complete(self) -> None:
        """The end of the response."""
        self._stream.status = self._parser.get_status_code()
        self._stream.ended = self._now
        if not self.complete.done():
            self.complete.set_result(self._stream)

    def _end(self, error: Exception) -> None:
        if not self.complete.done():
            self.complete.set_exception(error)
