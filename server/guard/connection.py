"""One HTTP connection, whose peer may neither send nor read as slowly as he likes.

uvicorn bounds the time between requests, but not how long a request's headers may take, nor how large they may be, nor
how long an answer may lie unread: when an app has sent its last byte, or has given up on its reader, what is left waits
in the transport's buffer, and the connection with it, for as long as the peer keeps it open. So here:

- headers must be complete within a time, from the connection or from their first byte, and within a size; so must what
  a peer sends between requests or after the answer to one: line ends, the rest of a body that nobody reads, trailers;
- a peer who takes nothing of what waits for him is disconnected after a time, whatever the app is doing.

How long a request's body may take is the matter of :class:`~server.guard.body.BodyLimit`. How many connections there
may be is bounded by the file descriptors of the process alone: that is for the gateway in front.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.settings import ServerSettings

MAX_HEADER_BYTES = 64 * 1024  # as h11 has it, of trailers too; what came with them in one read does not count

logger = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the bounds of this module.

    Args:
        settings: how long a peer may take.
        refusal: the response to what is no request, with a message that says why.
        uvicorn: what uvicorn gives its protocols.
    """

    def __init__(self, settings: ServerSettings, refusal: Callable[[str], Response], **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._refusal = refusal
        self._header_timeout_s = settings.header_timeout_s
        self._send_timeout_s = settings.send_timeout_s
        self._header_bytes = 0  # since the latest byte of a body, or the end of a request
        self._in_body = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing is then paused while anything waits for the peer, and not only when much does.
        transport.set_write_buffer_limits(high=0)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)
        if (self._header_timer is not None or self._in_body) and self._header_bytes > MAX_HEADER_BYTES:
            self._end_headers()
            self._refuse("The headers of the request are too large.")
        elif not (self._answering or self.transport.is_closing()):
            # Whatever it was, uvicorn waits without a limit now.
            self._await_headers()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        """The headers of a request are here."""
        self._end_headers()
        self._in_body, self._header_bytes = True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a request's body."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request, which may have been answered before."""
        self._end_headers()
        self._in_body, self._header_bytes = False, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what never gets to the app, in the words of the app rather than uvicorn's."""
        response = self._refusal(msg)
        headers = [name + b": " + value for name, value in (*response.raw_headers, (b"connection", b"close"))]
        self.transport.write(b"\r\n".join([b"HTTP/1.1 400 Bad Request", *headers, b"", bytes(response.body)]))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def _await_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._header_timeout_s, self._give_up_on_headers)

    def _end_headers(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up_on_headers(self) -> None:
        self._header_timer = None
        if self._answering:
            self._await_headers()  # of a pipelined request, which uvicorn does not read on before the answer is over
        elif self._header_bytes and not self._in_body:
            self._refuse("The headers of the request took too long.")
        else:
            self.transport.close()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, message: str) -> None:
        if self._answering or self._in_body:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.send_400_response(message)

    def _watch_reader(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(self._send_timeout_s, self._disconnect_unless_read, waiting)

    def _disconnect_unless_read(self, waiting: int) -> None:
        """Give up on a peer for whom as much waits as did before."""
        if self.transport.get_write_buffer_size() < waiting:
            self._watch_reader()
            return
        logger.info("a peer took nothing of %d bytes for %g s", waiting, self._send_timeout_s)
        self.transport.abort()
