"""What an answer has to tell and its reader has not yet taken."""

import asyncio
from collections import deque
from dataclasses import replace

from server.interleave.events import DocumentEvent, TextDelta

UNNUMBERED = -1
"""The sequence of an event in the outbox, and the part of one whose part has no index yet: given on the way out."""


class Outbox:
    """A queue of events with one reader. Events get their sequence numbers as they leave.

    It never makes the writer wait: text that a slow reader has not taken grows into one delta, and everything else is
    limited by the number of pictures.
    """

    def __init__(self) -> None:
        self._events: deque[DocumentEvent] = deque()
        self._filled = asyncio.Event()
        self._sequence = 0

    def put(self, event: DocumentEvent) -> None:
        """Add an event."""
        last = self._events[-1] if self._events else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta) and last.part == event.part:
            self._events[-1] = replace(last, text=last.text + event.text, logprobs=last.logprobs + event.logprobs)
        else:
            self._events.append(event)
        self._filled.set()

    async def take(self) -> DocumentEvent:
        """The next event, numbered. Waits for one."""
        while not self._events:
            self._filled.clear()
            await self._filled.wait()
        event = replace(self._events.popleft(), sequence=self._sequence)
        self._sequence += 1
        return event
