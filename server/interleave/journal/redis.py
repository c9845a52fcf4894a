"""The journal of server processes that share a Redis: each keeps its own documents, and reads those of the others."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from redis.exceptions import RedisError

from server.interleave.events import CANCELLED, DocumentEvent
from server.interleave.journal.base import JournalLoad, Record, StoredDocument
from server.interleave.journal.keys import Keys
from server.interleave.journal.log import DocumentLog
from server.interleave.journal.memory import EndDocument, MemoryJournal
from server.interleave.journal.mirror import Mirror
from server.interleave.journal.peers import Peers, Wish
from server.interleave.journal.remote import RemoteDocuments
from server.pool.connection import connect
from server.settings import JournalSettings, RedisSettings
from server.tasks import end

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
LISTEN_S = 0.2  # between looks at what others want
FLUSH_LIMIT_S = 5.0
SLOWEST_SEEN_S = 10.0


class RedisJournal:
    """Logs in the memory of this process, which a mirror copies to Redis, and the documents of others from there.

    What its methods promise is said in :class:`~server.interleave.journal.base.Journal`.

    Args:
        settings: the bounds.
        redis: where the documents are shared.
        end_document: ends a running document of this process.

    Raises:
        ValueError: the URL of the Redis is wrong.
    """

    def __init__(self, settings: JournalSettings, redis: RedisSettings, end_document: EndDocument) -> None:
        url = redis.url.get_secret_value() if redis.url else ""
        server_id = uuid.uuid4().hex
        self._keys = Keys(redis.namespace)
        self._client = connect(url, name="dreamserve-journal", max_connections=MAX_CONNECTIONS)
        self._peers = Peers(self._client, self._keys, server_id, redis.lease_s)
        self._mirror = Mirror(
            self._client,
            self._keys,
            server_id,
            retention_s=settings.retention_s,
            patience_s=redis.patience_s,
            end_document=end_document,
        )
        self._local = MemoryJournal(settings, end_document, changed=self._mirror.note, dropped=self._mirror.forget)
        self._remote = RemoteDocuments(
            self._client,
            self._keys,
            self._peers,
            patience_s=redis.patience_s,
            seen_every_s=min(SLOWEST_SEEN_S, settings.abandon_after_s / 3),
        )
        self._end_document = end_document
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to share. Redis need not be there yet."""
        for loop, name in ((self._mirror.run(), "journal mirror"), (self._attend(), "journal peers")):
            task = asyncio.create_task(loop, name=name)
            task.add_done_callback(log_failure)
            self._tasks.append(task)

    async def close(self) -> None:
        """Stop, once Redis has the last events, or cannot be reached."""
        self._local.close()
        await self._mirror.flush(FLUSH_LIMIT_S)
        await end(self._tasks)
        await self._client.aclose()

    def open(self, record: Record) -> DocumentLog:
        return self._local.open(record)

    async def follow(self, document_id: str, after: int | None) -> AsyncGenerator[DocumentEvent, None]:
        return await self._keeper(document_id).follow(document_id, after)

    async def events_so_far(self, document_id: str) -> list[DocumentEvent]:
        return await self._keeper(document_id).events_so_far(document_id)

    async def stored(self, document_id: str) -> StoredDocument:
        return await self._keeper(document_id).stored(document_id)

    async def cancel(self, document_id: str) -> None:
        await self._keeper(document_id).cancel(document_id)

    async def delete(self, document_id: str) -> None:
        await self._keeper(document_id).delete(document_id)
        with suppress(RedisError):  # the mirror deletes it again, when it can
            await self._client.delete(*self._keys.of_document(document_id))

    def release_readers(self) -> None:
        self._remote.release_readers()

    def load(self) -> JournalLoad:
        return replace(self._local.load(), mirror_lag_s=self._mirror.lag_s)

    def _keeper(self, document_id: str) -> MemoryJournal | RemoteDocuments:
        """What has a document."""
        return self._remote if self._local.find(document_id) is None else self._local

    async def _attend(self) -> None:
        """Keep what this process has in Redis, and do what the others want."""
        renew_at, renewal_s = monotonic(), self._peers.lease_s / 3
        while True:
            with suppress(RedisError):  # the mirror says so when Redis is away
                if monotonic() >= renew_at:
                    await self._peers.announce()
                    await self._mirror.renew()
                    renew_at = monotonic() + renewal_s
                for wish, document_id in await self._peers.asked():
                    self._grant(wish, document_id)
            await asyncio.sleep(min(LISTEN_S, renewal_s))

    def _grant(self, wish: Wish, document_id: str) -> None:
        log = self._local.find(document_id)
        if log is None:
            if wish is Wish.DELETE:
                self._mirror.delete(document_id)
        elif wish is Wish.SEE:
            self._local.seen(log)
        elif wish is Wish.CANCEL and not log.ended:
            self._end_document(document_id, CANCELLED, "the document was cancelled")
        elif wish is Wish.DELETE and log.ended:
            self._local.drop(document_id)


def log_failure(task: asyncio.Task[None]) -> None:
    """Say that a task ended which should not."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("the task %r of the journal failed", task.get_name(), exc_info=error)
