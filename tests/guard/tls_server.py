"""A TLS server that answers as a test says, byte for byte, and a network that leads every address to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore
import trustme

HOST = "images.example.com"
PUBLIC = "93.184.215.14"

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class TLSServer:
    """A running server.

    Attributes:
        port: that it listens on.
        answer: what it sends to each request: bytes, or a function that sends them.
        trust: trusts its certificate.
        requests: the heads of the requests that came.
        names: that were asked for in the handshakes (SNI).
        ended: set when a connection has come to its end.
    """

    port: int = 0
    answer: Answer = b""
    trust: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    requests: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def tls_server(answer: Answer = b"", certificate_for: str = HOST) -> AsyncIterator[TLSServer]:
    """A server on this machine."""
    authority, server = trustme.CA(), TLSServer(answer=answer)
    authority.configure_trust(server.trust)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(certificate_for).configure_cert(tls)
    tls.sni_callback = lambda _, name, __: server.names.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if isinstance(server.answer, bytes):
                writer.write(server.answer)
                await writer.drain()
            else:
                await server.answer(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            server.ended.set()
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An HTTP answer whose end is the end of the connection, unless a header tells its length."""
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode() + body


class LeadingHere(httpcore.AsyncNetworkBackend):
    """The internet as a server on this machine.

    Args:
        port: of the server.
        closed: addresses at which nobody listens.

    Attributes:
        connected: addresses and ports that were to be connected to.
    """

    def __init__(self, port: int, closed: Sequence[str] = ()) -> None:
        self.connected: list[tuple[str, int]] = []
        self._port = port
        self._closed = closed
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self._closed:
            raise httpcore.ConnectError("refused")
        return await self._tcp.connect_tcp("127.0.0.1", self._port, timeout, local_address, socket_options)


class Names:
    """A resolver that answers as a test says.

    Args:
        answers: one after the other, the last one for good: addresses, or an error.

    Attributes:
        asked: names that were asked for.
    """

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        return found
