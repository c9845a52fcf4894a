"""A document while it is being made: one task drives its interceptor, and one reader takes its events."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from server.interleave.events import DocumentCompleted, DocumentEvent, DocumentFailed, Usage

logger = logging.getLogger(__name__)


class RunningDocument:
    """Runs one interceptor.

    The task owns the interceptor from its first event to its last, so whatever ends a document early is one
    cancellation. An event is handed over before the next one is asked for: a slow reader leaves the interceptor to
    put together what he has not taken.

    Args:
        id: of the document.
        first: the interceptor's first event, which says that the document was admitted.
        events: the interceptor's others.
        usage: what the document has cost so far.
        observe: sees each event as it is handed over.

    Attributes:
        id: of the document.
        task: done when the interceptor is closed and all that it started has ended.
    """

    def __init__(
        self,
        id: str,
        first: DocumentEvent,
        events: AsyncGenerator[DocumentEvent, None],
        usage: Callable[[], Usage],
        observe: Callable[[DocumentEvent], None],
    ) -> None:
        self.id = id
        self._usage = usage
        self._observe = observe
        self._queue: asyncio.Queue[DocumentEvent | None] = asyncio.Queue()
        self._failure: tuple[str, str] | None = None
        self._put(first)
        self.task = asyncio.create_task(self._run(events), name=f"document {id}")

    async def events(self) -> AsyncIterator[DocumentEvent]:
        """The events, from the first to the last. To be read once; ends early if the document is cancelled."""
        while (event := await self._queue.get()) is not None:
            yield event
            self._queue.task_done()

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
                await self._queue.join()
                async for event in events:
                    self._put(event)
                    await self._queue.join()
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            self._end(*self._failure)
        except Exception:
            logger.exception("document %s failed", self.id)
            self._end("internal_error", "the server failed to make this document")
        finally:
            self._queue.put_nowait(None)

    def _put(self, event: DocumentEvent) -> None:
        self._last = event
        self._observe(event)
        self._queue.put_nowait(event)

    def _end(self, code: str, message: str) -> None:
        """The last event, unless there has been one."""
        if not isinstance(self._last, DocumentCompleted | DocumentFailed):
            self._put(DocumentFailed(self._last.sequence + 1, code, message, self._usage()))
