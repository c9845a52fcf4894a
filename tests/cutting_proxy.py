"""A network that fails when told to: a TCP proxy on the event loop, with TLS towards its clients if wanted."""

import asyncio
import ssl
from contextlib import suppress
from typing import Self

from tests.redis_server import HOST, free_port


class CuttingProxy:
    """Forwards connections to a port of this machine, until told otherwise.

    Args:
        target_port: may be closed; then connections end as soon as they are made.
        tls: the proxy's own certificate. Given one, it speaks TLS to its clients and plain TCP to the target.

    Attributes:
        accepted: connections so far.
    """

    def __init__(self, target_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.accepted = 0
        self._target_port = target_port
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()

    async def heal(self) -> None:
        """Accept and forward. What a black hole held back arrives now, as after a partition of a real network."""
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._link, HOST, self.port, ssl=self._tls)

    async def cut(self) -> None:
        """End all connections at once; new ones may be made."""
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def refuse(self) -> None:
        """End all connections and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
        self._listener = None
        await self.cut()

    def black_hole(self) -> None:
        """Accept everything and forward nothing, not even that a side hung up."""
        self._flowing.clear()

    def strand(self) -> None:
        """Forward nothing more on the connections that exist, for good, and forward new ones: a NAT that forgot."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self.accepted += 1
        flowing = self._flowing
        writers = [writer]
        try:
            target_reader, target_writer = await asyncio.open_connection(HOST, self._target_port)
            writers.append(target_writer)
            there = asyncio.create_task(_pump(reader, target_writer, flowing))
            back = asyncio.create_task(_pump(target_reader, writer, flowing))
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
            for each in writers:
                each.close()
        except OSError:
            writer.transport.abort()
        except asyncio.CancelledError:
            for each in writers:
                each.transport.abort()
        finally:
            self._links.discard(link)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
        await flowing.wait()
