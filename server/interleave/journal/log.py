"""The events of one stored document, in the memory of the process that makes it."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence

from server.interleave.events import DocumentEvent, Status, is_last, status_after
from server.interleave.journal.base import JournalTruncatedError, Record, first_wanted

OBJECT_BYTES = 64  # what an object takes besides its content, about


class DocumentLog:
    """Takes the events of one document, and lets any number of readers follow, each at its own place.

    The writer waits for no reader. When the events take more than ``max_bytes``, the oldest are dropped, all but the
    latest if need be.

    Args:
        record: what is known of the document.
        max_bytes: that its events may take, about.
        changed: called when there are new events, or there will be none, with the change in bytes.
        watched: called when a reader comes or leaves.

    Attributes:
        record: what is known of the document.
        first: sequence number of the oldest event that is kept.
        bytes: that record and events take, about.
        readers: that follow now.
        ended: whether there will be no further event.
    """

    outlives_reader = True

    def __init__(
        self,
        record: Record,
        max_bytes: int,
        changed: Callable[["DocumentLog", int], None],
        watched: Callable[["DocumentLog"], None],
    ) -> None:
        self.record = record
        self.first = 0
        self.bytes = OBJECT_BYTES + len(record.request)
        self.readers = 0
        self.ended = False
        self._max_bytes = self.bytes + max_bytes
        self._changed = changed
        self._watched = watched
        self._events: list[DocumentEvent] = []
        self._grown = asyncio.Event()

    @property
    def next(self) -> int:
        """Sequence number of the event that comes next."""
        return self.first + len(self._events)

    @property
    def status(self) -> Status:
        """How far the document is."""
        return status_after(self._events[-1])

    def put(self, event: DocumentEvent) -> None:
        """Add an event."""
        size = size_of(event)
        self._events.append(event)
        self.bytes += size
        self.ended = is_last(event)
        self._tell(size - self.shrink(self._max_bytes))

    async def ready(self) -> None:
        """Return: nobody is waited for."""

    def close(self) -> None:
        """No event comes any more."""
        if not self.ended:
            self.ended = True
            self._tell(0)

    def events(self) -> AsyncGenerator[DocumentEvent, None]:
        """The events, from the first to the last. May be read any number of times."""
        return self.follow(None)

    async def follow(self, after: int | None) -> AsyncGenerator[DocumentEvent, None]:
        """The events after a sequence number, or all, up to the last.

        Raises:
            JournalTruncatedError: the next one is not kept any more.
        """
        place = first_wanted(after)
        self._count_reader(1)
        try:
            while place < self.next or not self.ended:
                if place >= self.next:
                    await self._grown.wait()
                    continue
                [event] = self.read(place, 1)
                place += 1
                yield event
        finally:
            self._count_reader(-1)

    def read(self, place: int, count: int | None = None) -> Sequence[DocumentEvent]:
        """So many of the events that are there, from a sequence number on.

        Raises:
            JournalTruncatedError: that one is not kept any more.
        """
        if place < self.first:
            raise JournalTruncatedError(self.record.id)
        begin = place - self.first
        return self._events[begin : None if count is None else begin + count]

    async def finished(self) -> None:
        """Return when the document has ended."""
        while not self.ended:
            await self._grown.wait()

    def shrink(self, max_bytes: int) -> int:
        """Drop the oldest events, all but the latest if need be, until the rest takes no more. Returns bytes freed."""
        dropped = freed = 0
        while self.bytes - freed > max_bytes and dropped < len(self._events) - 1:
            freed += size_of(self._events[dropped])
            dropped += 1
        del self._events[:dropped]
        self.first += dropped
        self.bytes -= freed
        return freed

    def _count_reader(self, change: int) -> None:
        self.readers += change
        self._watched(self)

    def _tell(self, added_bytes: int) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
        self._changed(self, added_bytes)


def size_of(value: object) -> int:
    """Bytes that an event takes in memory, about: those of its pictures and texts, and something for each object."""
    if isinstance(value, bytes | str):
        return OBJECT_BYTES + len(value)
    if isinstance(value, tuple):
        return OBJECT_BYTES + sum(map(size_of, value))
    if dataclasses.is_dataclass(value):
        return OBJECT_BYTES + sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0
