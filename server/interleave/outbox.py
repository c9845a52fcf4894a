"""What an answer has to tell and its reader has not yet taken."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from server.interleave.event_size import size_of
from server.interleave.events import DocumentEvent, ImagePreview, TextDelta, is_last, numbered
from server.interleave.limits import DocumentError

UNNUMBERED = -1
"""The sequence of an event in the outbox, and the part of one whose part has no index yet: given on the way out."""


def ignore(event: DocumentEvent) -> None:
    """Observe nothing."""


class Outbox:
    """A queue of events with one reader. Events get their sequence numbers as they leave.

    It never makes the writer wait, who holds what others need: text that a slow reader has not taken grows into one
    delta, and when too much waits, previews go first and then the document fails.

    Args:
        max_bytes: that may wait, about.

    Attributes:
        observe: sees each event as it is put, while its reader may have to take those before it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.observe: Callable[[DocumentEvent], None] = ignore
        self._max_bytes = max_bytes
        self._bytes = 0
        self._events: deque[tuple[DocumentEvent, int]] = deque()
        self._filled = asyncio.Event()
        self._sequence = 0

    def put(self, event: DocumentEvent) -> None:
        """Add an event.

        Raises:
            DocumentError: too much waits already. There is always room for the last event.
        """
        size = size_of(event)
        if self._bytes + size > self._max_bytes and not is_last(event):
            self._make_room(size)
        last, last_size = self._events[-1] if self._events else (None, 0)
        if isinstance(event, TextDelta) and isinstance(last, TextDelta) and last.part == event.part:
            grown = replace(last, text=last.text + event.text, logprobs=last.logprobs + event.logprobs)
            self._events[-1] = grown, last_size + size
        else:
            self._events.append((event, size))
        self._bytes += size
        self._filled.set()
        self.observe(event)

    async def take(self) -> DocumentEvent:
        """The next event, numbered. Waits for one."""
        while not self._events:
            self._filled.clear()
            await self._filled.wait()
        event, size = self._events.popleft()
        self._bytes -= size
        sequence = self._sequence
        self._sequence += 1
        return numbered(event, sequence)

    def _make_room(self, size: int) -> None:
        self._events = deque(waiting for waiting in self._events if not isinstance(waiting[0], ImagePreview))
        self._bytes = sum(waiting_size for _, waiting_size in self._events)
        # One event alone may be as large as it is.
        if self._events and self._bytes + size > self._max_bytes:
            raise DocumentError("reader_too_slow", f"the reader has left more than {self._max_bytes} bytes waiting")
