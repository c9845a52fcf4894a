"""A document while it is being made: one task drives its interceptor, and an outlet takes its events."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from server.interleave.events import DocumentEvent, DocumentFailed, Usage, is_last

logger = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where the events of one document go.

    Attributes:
        outlives_reader: whether the document goes on when its reader leaves.
    """

    outlives_reader: bool

    def put(self, event: DocumentEvent) -> None:
        """Take an event."""

    async def ready(self) -> None:
        """Return when the next event may be put."""

    def close(self) -> None:
        """No event comes any more."""

    def events(self) -> AsyncIterator[DocumentEvent]:
        """The events, from the first to the last."""


class Handover:
    """The outlet of a document that is not stored: one reader takes each event before the next one is laid out.

    So a slow reader leaves the interceptor to put together what he has not taken, and nothing is kept.
    """

    outlives_reader = False

    def __init__(self) -> None:
        self._events: deque[DocumentEvent] = deque()
        self._closed = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    def put(self, event: DocumentEvent) -> None:
        """Lay an event out for the reader."""
        self._events.append(event)
        self._taken.clear()
        self._changed.set()

    async def ready(self) -> None:
        """Return when the reader has taken it."""
        await self._taken.wait()

    def close(self) -> None:
        """End the reading."""
        self._closed = True
        self._changed.set()

    async def events(self) -> AsyncIterator[DocumentEvent]:
        """The events. To be read once; ends early if the document is cancelled."""
        while self._events or not self._closed:
            if not self._events:
                self._changed.clear()
                await self._changed.wait()
                continue
            yield self._events.popleft()
            if not self._events:
                self._taken.set()


class RunningDocument:
    """Runs one interceptor.

    The task owns the interceptor from its first event to its last, so whatever ends a document early is one
    cancellation.

    Args:
        id: of the document.
        first: the interceptor's first event, which says that the document was admitted.
        events: the interceptor's others.
        usage: what the document has cost so far.
        observe: sees each event before the outlet does.
        outlet: takes the events. By default a :class:`Handover`.

    Attributes:
        id: of the document.
        usage: what it has cost so far.
        task: done when the interceptor is closed and all that it started has ended.
    """

    def __init__(
        self,
        id: str,
        first: DocumentEvent,
        events: AsyncGenerator[DocumentEvent, None],
        usage: Callable[[], Usage],
        observe: Callable[[DocumentEvent], None],
        outlet: Outlet | None = None,
    ) -> None:
        self.id = id
        self.usage = usage
        self._observe = observe
        self._outlet = outlet or Handover()
        self._failure: tuple[str, str] | None = None
        self._put(first)
        self.task = asyncio.create_task(self._run(events), name=f"document {id}")

    def events(self) -> AsyncIterator[DocumentEvent]:
        """The events, from the first to the last. To be read once, unless the document is stored."""
        return self._outlet.events()

    def leave(self) -> None:
        """The reader leaves, having read everything or not. That ends the document, unless it is stored."""
        if not self._outlet.outlives_reader:
            self.cancel()

    def cancel(self) -> None:
        """Abort all that the document has started: nobody wants it any more. Does nothing to one that has ended."""
        # Not at once: a task that is cancelled before its first step never runs, not even to close what it was given.
        asyncio.get_running_loop().call_soon(self.task.cancel)

    def fail(self, code: str, message: str) -> None:
        """Abort all that the document has started and end it with an error event."""
        self._failure = (code, message)
        self.cancel()

    async def _run(self, events: AsyncGenerator[DocumentEvent, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    # Not after the one before was put: its reader has mostly taken it by now, and nothing wakes this
                    # task for that.
                    await self._outlet.ready()
                    self._put(event)
                await self._outlet.ready()
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            self._end(*self._failure)
        except Exception:
            logger.exception("document %s failed", self.id)
            self._end("internal_error", "the server failed to make this document")
        finally:
            self._outlet.close()
            # Whoever still holds the document should not hold all that it was made of, such as the request's pictures.
            usage = self.usage()
            self.usage = lambda: usage

    def _put(self, event: DocumentEvent) -> None:
        try:
            self._observe(event)
        finally:
            # Whatever fails in who looks on, no reader misses an event, least of all the last.
            self._last = event
            self._outlet.put(event)

    def _end(self, code: str, message: str) -> None:
        """The last event, unless there has been one."""
        if not is_last(self._last):
            self._put(DocumentFailed(self._last.sequence + 1, code, message, self.usage()))
