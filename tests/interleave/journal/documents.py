"""Stored documents for the tests of the journal, and a stand-in for what makes them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    Image,
    ImageCompleted,
    ImageQueued,
    TextDelta,
    Usage,
)
from server.interleave.journal.base import Journal, Record
from server.interleave.running import Outlet

PICTURE = Image(id="file_1", data=bytes(1000), format="png", width=2, height=2, seed=5)
STORY: tuple[DocumentEvent, ...] = (
    DocumentStarted(0, "doc", "model", 1),
    TextDelta(1, 0, "Look: "),
    ImageQueued(2, 1, 0, None),
    ImageCompleted(3, 1, PICTURE),
    TextDelta(4, 2, "The end."),
    DocumentCompleted(5, "stop", Usage(prompt_tokens=3, completion_tokens=9, images=1)),
)


def record(document_id: str = "doc", *, background: bool = False) -> Record:
    """A record of no particular request."""
    return Record(document_id, "alice", "interleaved", b'{"n": 1}', background, created=1)


def put(outlet: Outlet, events: Sequence[DocumentEvent]) -> None:
    """Put events into an outlet."""
    for event in events:
        outlet.put(event)


async def read(events: AsyncGenerator[DocumentEvent, None], count: int | None = None) -> list[DocumentEvent]:
    """So many events, or all."""
    taken: list[DocumentEvent] = []
    async with aclosing(events):
        while len(taken) != count:
            try:
                taken.append(await anext(events))
            except StopAsyncIteration:
                break
    return taken


async def forget(journal: Journal, document_id: str = "doc") -> None:
    """Have a journal end a document and delete it."""
    await journal.cancel(document_id)
    await journal.delete(document_id)


async def until(condition: Callable[[], bool]) -> None:
    """Return when something holds that no event tells of."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Maker:
    """Makes documents, and ends them when the journal says so.

    Attributes:
        ended: the documents that it was told to end, with code and message.
    """

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str]] = []
        self._outlets: dict[str, Outlet] = {}
        self._made: dict[str, int] = {}

    def begin(self, journal: Journal, document_id: str = "doc", *, background: bool = False) -> Outlet:
        """Open a document and put its first event."""
        outlet = self._outlets[document_id] = journal.open(record(document_id, background=background))
        self._made[document_id] = 0
        self.make(document_id, 1)
        return outlet

    def make(self, document_id: str = "doc", count: int | None = None) -> None:
        """Put the next events of :data:`STORY`, so many or all."""
        begin = self._made[document_id]
        end = len(STORY) if count is None else begin + count
        put(self._outlets[document_id], STORY[begin:end])
        self._made[document_id] = end

    def end(self, document_id: str, code: str, message: str) -> None:
        """What the journal calls."""
        self.ended.append((document_id, code, message))
        sequence = self._made[document_id]
        self._outlets[document_id].put(DocumentFailed(sequence, code, message, Usage()))


def large(sequence: int, size: int) -> DocumentEvent:
    """A picture of so many bytes."""
    return ImageCompleted(sequence, 1, replace(PICTURE, data=bytes(size)))
