"""The journal of one process: logs in memory, within bounds of bytes and time."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from math import inf

from server.interleave.events import CANCELLED, DocumentEvent
from server.interleave.journal.base import (
    DocumentNotFoundError,
    JournalError,
    JournalLoad,
    JournalUnavailableError,
    Record,
    StoredDocument,
)
from server.interleave.journal.log import DocumentLog
from server.settings import JournalSettings

logger = logging.getLogger(__name__)

END_LIMIT_S = 10.0
"""How long a document that is cancelled may take to its last event."""

EndDocument = Callable[[str, str, str], None]
"""Ends the running document of an id with an error of a code and a message."""


class MemoryJournal:
    """Keeps the logs of the stored documents that this process makes, and for a while of those that it has made.

    A running document that nobody has read for a while is cancelled, unless it is made in the background. When the
    logs together take too many bytes, those of ended documents go, what ended first goes first; when that is not
    enough, the largest of the others lose their oldest events.

    What its methods promise is said in :class:`~server.interleave.journal.base.Journal`.

    Args:
        settings: the bounds.
        end_document: ends a running document.
        changed: called when a log has new events.
        dropped: called when a log is not kept any more.
    """

    def __init__(
        self,
        settings: JournalSettings,
        end_document: EndDocument,
        changed: Callable[[DocumentLog], None] = lambda log: None,
        dropped: Callable[[DocumentLog], None] = lambda log: None,
    ) -> None:
        self._settings = settings
        self._end_document = end_document
        self._changed = changed
        self._dropped = dropped
        self._logs: dict[str, DocumentLog] = {}
        self._ended: dict[str, DocumentLog] = {}
        self._bytes = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def open(self, record: Record) -> DocumentLog:
        """The log of a new document."""
        log = DocumentLog(record, self._settings.document_bytes, self._log_changed, self.seen)
        self._logs[record.id] = log
        self._bytes += log.bytes
        self.seen(log)
        return log

    def find(self, document_id: str) -> DocumentLog | None:
        """The log of a document, if it is here."""
        return self._logs.get(document_id)

    async def follow(self, document_id: str, after: int | None) -> AsyncGenerator[DocumentEvent, None]:
        return self._require(document_id).follow(after)

    async def events_so_far(self, document_id: str) -> list[DocumentEvent]:
        log = self._require(document_id)
        self.seen(log)
        return list(log.read(0))

    async def stored(self, document_id: str) -> StoredDocument:
        log = self._require(document_id)
        self.seen(log)
        return await asyncio.to_thread(log.record.stored, log.status, log.first)

    async def cancel(self, document_id: str) -> None:
        log = self._require(document_id)
        if log.ended:
            return
        self._end_document(document_id, CANCELLED, "the document was cancelled")
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await log.finished()
        except TimeoutError:
            raise JournalUnavailableError(f"document {document_id!r} has not ended within {END_LIMIT_S:g} s") from None

    async def delete(self, document_id: str) -> None:
        if not self._require(document_id).ended:
            raise JournalError(f"document {document_id!r} is still being made")
        self.drop(document_id)

    def release_readers(self) -> None:
        """There are no other processes."""

    def load(self) -> JournalLoad:
        return JournalLoad(len(self._logs), self._bytes, mirror_lag_s=0.0)

    def seen(self, log: DocumentLog) -> None:
        """Somebody reads a document, or has just left off: from now on it counts as abandoned after a while."""
        if log.ended:
            return
        self._stop_timer(log)
        patience_s = inf if log.record.background else self._settings.abandon_after_s
        if log.readers == 0 and patience_s < inf:
            self._start_timer(log, patience_s, self._abandon)

    def drop(self, document_id: str) -> None:
        """Keep a document no longer. Those who follow it read on to its end."""
        if (log := self._logs.pop(document_id, None)) is None:
            return
        self._ended.pop(document_id, None)
        self._stop_timer(log)
        self._bytes -= log.bytes
        self._dropped(log)

    def close(self) -> None:
        """Stop all clocks."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _require(self, document_id: str) -> DocumentLog:
        if log := self._logs.get(document_id):
            return log
        raise DocumentNotFoundError(document_id)

    def _log_changed(self, log: DocumentLog, added_bytes: int) -> None:
        self._bytes += added_bytes
        if log.ended:
            self._ended[log.record.id] = log
            self._start_timer(log, self._settings.retention_s, lambda ended: self.drop(ended.record.id))
        self._changed(log)
        self._make_room()

    def _make_room(self) -> None:
        """Keep no more bytes than allowed."""
        while self._bytes > self._settings.total_bytes and self._ended:
            self.drop(next(iter(self._ended)))
        if self._bytes > self._settings.total_bytes:
            for log in sorted(self._logs.values(), key=lambda log: -log.bytes):
                self._bytes -= log.shrink(log.bytes - (self._bytes - self._settings.total_bytes))

    def _abandon(self, log: DocumentLog) -> None:
        logger.info("document %s is abandoned", log.record.id)
        message = f"nobody has read the document for {self._settings.abandon_after_s:g} s"
        self._end_document(log.record.id, CANCELLED, message)

    def _start_timer(self, log: DocumentLog, delay_s: float, then: Callable[[DocumentLog], None]) -> None:
        self._stop_timer(log)
        self._timers[log.record.id] = asyncio.get_running_loop().call_later(delay_s, then, log)

    def _stop_timer(self, log: DocumentLog) -> None:
        if timer := self._timers.pop(log.record.id, None):
            timer.cancel()
