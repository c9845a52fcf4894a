"""The events of one stored document, in the memory of the process that makes it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from server.interleave.event_size import OBJECT_BYTES, size_of
from server.interleave.events import DocumentEvent, Status, is_last, status_after
from server.interleave.journal.base import JournalTruncatedError, Record, first_wanted


class DocumentLog:
    """Takes the events of one document, and lets any number of readers follow, each at its own place.

    The writer waits for no reader. When the events take more than ``max_bytes``, the oldest are dropped, all but the
    latest if need be; but none that a reader who is here has not taken yet. How far readers stay behind is bounded by
    the time that they are given to take an event.

    Args:
        record: what is known of the document.
        max_bytes: that its events may take, about.
        changed: called when there are new events, or there will be none, with the change in bytes.
        watched: called when a reader comes or leaves.

    Attributes:
        record: what is known of the document.
        first: sequence number of the oldest event that is kept.
        bytes: that record and events take, about.
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
        self.ended = False
        self._max_bytes = self.bytes + max_bytes
        self._changed = changed
        self._watched = watched
        self._events: list[DocumentEvent] = []
        self._places: dict[object, int] = {}
        self._grown = asyncio.Event()

    @property
    def next(self) -> int:
        """Sequence number of the event that comes next."""
        return self.first + len(self._events)

    @property
    def readers(self) -> int:
        """How many follow now."""
        return len(self._places)

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
        reader, place = object(), first_wanted(after)
        self._places[reader] = place
        self._watched(self)
        try:
            while place < self.next or not self.ended:
                if place >= self.next:
                    await self._grown.wait()
                    continue
                [event] = self.read(place, 1)
                place += 1
                self._places[reader] = place
                yield event
        finally:
            del self._places[reader]
            self._watched(self)

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
        """Drop the oldest events that may go until the rest takes no more. Returns bytes freed."""
        may_go = min([len(self._events) - 1, *(place - self.first for place in self._places.values())])
        dropped = freed = 0
        while self.bytes - freed > max_bytes and dropped < may_go:
            freed += size_of(self._events[dropped])
            dropped += 1
        del self._events[:dropped]
        self.first += dropped
        self.bytes -= freed
        return freed

    def _tell(self, added_bytes: int) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
        self._changed(self, added_bytes)
