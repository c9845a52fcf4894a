"""Reading a stream of document events, as far as a test wants to."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse


@dataclass
class Listener:
    """Reads a stream.

    Attributes:
        source: of the events.
        events: read so far.
    """

    source: EventSource
    events: list[ServerSentEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Comments, which a server sends in long silences, are told as events without data.
        self._coming = (event async for event in self.source.aiter_sse() if event.data)

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(event.json()["text"] for event in self.events if event.event == "text.delta")

    async def hear(self, enough: Callable[[], bool]) -> None:
        """Read until it is so."""
        while not enough():
            self.events.append(await anext(self._coming))

    async def hear_all(self) -> list[ServerSentEvent]:
        """Read to the end. All events of the stream, from the first."""
        self.events += [event async for event in self._coming]
        return self.events


@asynccontextmanager
async def listening(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> AsyncIterator[Listener]:
    """A stream that is there."""
    async with aconnect_sse(client, method, path, **request) as source:
        assert source.response.status_code == 200, (await source.response.aread()).decode()
        yield Listener(source)


def numbers(events: list[ServerSentEvent]) -> list[int]:
    """Sequence numbers of events."""
    return [int(event.id) for event in events]
