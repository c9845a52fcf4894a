"""Readers of streams, as cheap as they can be: raw connections that count what comes and parse nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from load_tests.fan_out.ticks import PERIOD_S, latest_tick

MODEL = "dreamllm-tiny"
TEXT = b'"content":"'
END_OF_FRAME = b"\n\n"
BODY = json.dumps(
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "stream": True,
        "max_tokens": 50_000,
        "modalities": ["text"],
    }
).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
CONNECTED_TOGETHER = 50
POLL_S = 0.05
GROW_WITHIN_S = 120


@dataclass
class Window:
    """What readers saw in a span of time.

    Attributes:
        frames: server-sent events.
        ticks: tokens in them.
        lateness: seconds from a tick to the frame that ended with it.
    """

    frames: int = 0
    ticks: int = 0
    lateness: list[float] = field(default_factory=list)


class Reader(asyncio.Protocol):
    """One connection that reads an answer without end.

    Args:
        ticks: numbers of ticks by their words.
        broken: to be filled by a connection that ends.

    Attributes:
        window: what this reader adds to; None adds to nothing.
        latest: its latest tick, None before the first.
        gone: when the connection is closed.
    """

    def __init__(self, ticks: Mapping[bytes, int], broken: set[str]) -> None:
        self.window: Window | None = None
        self.latest: int | None = None
        self.gone = asyncio.Event()
        self._ticks = ticks
        self._broken = broken
        self._transport: asyncio.Transport | None = None
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask for the answer."""
        self._transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Look at the last word only."""
        now = time.monotonic()
        begin = data.rfind(TEXT) + len(TEXT)
        end = data.find(b'"', begin)
        if begin < len(TEXT) or end < 0:
            return
        place = self._ticks.get(data[begin:end].rpartition(b" ")[2])
        if place is None:
            return
        newest = latest_tick(now)
        tick = newest - (newest - place) % len(self._ticks)
        if self.window is not None and self.latest is not None:
            self.window.frames += data.count(END_OF_FRAME)
            self.window.ticks += tick - self.latest
            self.window.lateness.append(now - tick * PERIOD_S)
        self.latest = tick

    def connection_lost(self, exc: Exception | None) -> None:
        """No stream ends before its reader leaves."""
        self.gone.set()
        if not self._leaving:
            self._broken.add(repr(exc))

    def leave(self) -> None:
        """Close the connection."""
        self._leaving = True
        if self._transport is not None:
            self._transport.abort()


class Readers:
    """All readers of one server.

    Args:
        port: of the server on this machine.
        words: of the ticks, in order.
    """

    def __init__(self, port: int, words: list[str]) -> None:
        self._port = port
        self._places = {word.encode(): place for place, word in enumerate(words)}
        self._readers: list[Reader] = []
        self._broken: set[str] = set()

    async def grow(self, count: int) -> None:
        """Connect until there are so many, and return when each has had a tick.

        Raises:
            RuntimeError: a stream broke off, or had no tick for too long.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + GROW_WITHIN_S
        while len(self._readers) < count:
            more = min(CONNECTED_TOGETHER, count - len(self._readers))
            made = [
                loop.create_connection(lambda: Reader(self._places, self._broken), "127.0.0.1", self._port)
                for _ in range(more)
            ]
            self._readers += [reader for _, reader in await asyncio.gather(*made)]
            while any(reader.latest is None for reader in self._readers):
                self._require_whole()
                if loop.time() > give_up_at:
                    raise RuntimeError(f"after {GROW_WITHIN_S} s not all of {len(self._readers)} streams have begun")
                await asyncio.sleep(POLL_S)

    async def watch(self, seconds: float) -> Window:
        """What all of them see from now on.

        Raises:
            RuntimeError: a stream broke off.
        """
        window = Window()
        for reader in self._readers:
            reader.window = window
        await asyncio.sleep(seconds)
        for reader in self._readers:
            reader.window = None
        self._require_whole()
        return window

    async def leave(self) -> None:
        """Close all connections. A server would wait for those that are open before it stops."""
        for reader in self._readers:
            reader.leave()
        for reader in self._readers:
            await reader.gone.wait()

    def _require_whole(self) -> None:
        if self._broken:
            raise RuntimeError(f"a stream broke off: {', '.join(self._broken)}")


@asynccontextmanager
async def readers_of(port: int, words: list[str]) -> AsyncIterator[Readers]:
    """Readers of a server, none at first, who leave at the end."""
    readers = Readers(port, words)
    try:
        yield readers
    finally:
        await readers.leave()
