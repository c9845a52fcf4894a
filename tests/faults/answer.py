"""A caller who reads one answer as it comes."""

import asyncio
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.pool.rendering import eventually

INTERLEAVED = "/v1/interleaved"


class Answer:
    """Asks for a stream and reads it to its end, or leaves.

    Attributes:
        events: that have come so far.
    """

    def __init__(self, client: httpx.AsyncClient, body: dict[str, Any], path: str = INTERLEAVED) -> None:
        self.events: list[ServerSentEvent] = []
        self._accepted = False
        self._reading = asyncio.create_task(self._read(client, body, path))

    async def _read(self, client: httpx.AsyncClient, body: dict[str, Any], path: str) -> None:
        async with aconnect_sse(client, "POST", path, json={**body, "stream": True}) as source:
            assert source.response.status_code == 200, (await source.response.aread()).decode()
            self._accepted = True
            async for event in source.aiter_sse():
                if event.data:  # without, it is a comment that keeps the connection alive
                    self.events.append(event)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self._reading.done()

    def has(self, name: str) -> bool:
        """Whether an event of this name has come. It must not have ended without."""
        found = any(event.event == name for event in self.events)
        assert found or not self.has_ended, f"no {name} among {[event.event for event in self.events]}"
        return found

    async def until(self, name: str) -> None:
        """Wait for the first event of a name."""
        await eventually(lambda: self.has(name))

    async def accepted(self) -> None:
        """Wait until the server has said that there will be a stream."""
        await eventually(lambda: self._accepted)

    async def id(self) -> str:
        """Of the document."""
        await self.until("document.started")
        id: str = self.events[0].json()["id"]
        return id

    async def ended(self) -> list[ServerSentEvent]:
        """All events, once the stream has ended."""
        await self._reading
        return self.events

    async def leave(self) -> None:
        """Close the connection in the middle."""
        assert not self.has_ended, "the answer has ended before its caller could leave"
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def document(self) -> list[ServerSentEvent]:
        """All events of a document, numbered without gaps, of which the last and only the last is an end."""
        events = await self.ended()
        assert [event.id for event in events] == [str(number) for number in range(len(events))]
        ends = [event.event in ("document.completed", "document.failed") for event in events]
        assert ends == [False] * (len(events) - 1) + [True], [event.event for event in events]
        return events


def pictures(events: list[ServerSentEvent]) -> list[dict[str, Any]]:
    """The finished pictures of a document."""
    return [event.json()["image"] for event in events if event.event == "image.completed"]


def text(events: list[ServerSentEvent]) -> str:
    """All text of a document."""
    return "".join(event.json()["text"] for event in events if event.event == "text.delta")


def error_of(events: list[ServerSentEvent]) -> str:
    """The code with which a document has failed."""
    assert events[-1].event == "document.failed", events[-1]
    code: str = events[-1].json()["error"]["code"]
    return code
