"""Copies the logs of one process to Redis, for the readers of all others."""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.interleave.journal.base import SERVER_LOST
from server.interleave.journal.keys import Keys
from server.interleave.journal.log import DocumentLog
from server.interleave.journal.memory import EndDocument
from server.interleave.journal.replica import BATCH_BYTES, Replica, TakenOverError
from server.observe import metrics
from server.observe.tracing import fail

logger = logging.getLogger(__name__)

GATHER_S = 0.02  # readers look less often, and one batch is cheaper than many
RETRY_S = 0.1
SLOWEST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Behind:
    """A replica that lacks events, and since when the oldest of them waits, on the monotonic clock."""

    replica: Replica
    since: float


class Mirror:
    """Writes the events of all logs in order, and deletes what is not kept any more.

    No writer of a log waits for it. While Redis is away it tries again; a document of which something has waited too
    long is not copied at all, and can then be read in this process only. A Redis that comes back without its data gets
    the running documents once more.

    Args:
        client: of the Redis.
        keys: of the journal.
        server_id: of this process.
        retention_s: how long documents are kept after their last event.
        patience_s: how long an event may wait.
        end_document: ends a document that readers of other processes have been told is lost.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        server_id: str,
        *,
        retention_s: float,
        patience_s: float,
        end_document: EndDocument,
    ) -> None:
        self._client = client
        self._keys = keys
        self._server_id = server_id
        self._retention_s = retention_s
        self._patience_s = patience_s
        self._end_document = end_document
        self._replicas: dict[str, Replica | None] = {}  # None: there is to be none
        self._behind: dict[str, Behind] = {}
        self._unwanted: dict[str, None] = {}
        self._work = asyncio.Event()
        self._complete = asyncio.Event()
        self._complete.set()
        self._away = False

    @property
    def lag_s(self) -> float:
        """Age of the oldest event that is to be copied."""
        oldest = min((behind.since for behind in self._behind.values()), default=None)
        return 0.0 if oldest is None else monotonic() - oldest

    def note(self, log: DocumentLog) -> None:
        """A log has new events."""
        document_id = log.record.id
        if document_id not in self._replicas:
            self._replicas[document_id] = Replica(log, self._keys, self._server_id, self._retention_s)
        if (replica := self._replicas[document_id]) and not replica.complete:
            self._catch_up(replica)

    def forget(self, log: DocumentLog) -> None:
        """A log is not kept any more."""
        if (replica := self._replicas.pop(log.record.id, None)) is not None:
            replica.span.end()
        self.delete(log.record.id)

    def delete(self, document_id: str) -> None:
        """Delete what Redis has of a document."""
        self._behind.pop(document_id, None)
        self._unwanted[document_id] = None
        self._work.set()

    async def renew(self) -> None:
        """Have Redis keep what it has of the running documents, and find out what it has lost.

        Raises:
            RedisError: Redis cannot be reached.
        """
        replicas = [replica for replica in self._replicas.values() if replica and replica.begun]
        async with self._client.pipeline(transaction=False) as pipeline:
            for replica in replicas:
                replica.renew(pipeline)
            kept = await pipeline.execute()
        for replica, has_record, has_events in zip(replicas, kept[::2], kept[1::2], strict=True):
            if not (has_record and has_events) and self._replicas.get(replica.log.record.id) is replica:
                replica.certain = False
                self._catch_up(replica)

    async def flush(self, limit_s: float) -> None:
        """Return when Redis has all events, or that takes too long."""
        try:
            async with asyncio.timeout(limit_s):
                await self._complete.wait()
        except TimeoutError:
            logger.error("%d stored documents are not all in Redis", len(self._behind))

    async def run(self) -> None:
        """Copy, until cancelled."""
        wait_s = RETRY_S
        while True:
            await self._work.wait()
            try:
                await self._delete_unwanted()
                await self._copy_some()
            except RedisError as error:
                if not self._away:
                    logger.warning("stored documents wait for Redis: %s", error)
                self._away = True
                self._give_up_overdue()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, SLOWEST_RETRY_S)
            else:
                self._away, wait_s = False, RETRY_S
                await asyncio.sleep(GATHER_S)
            if not self._behind:
                self._complete.set()
                if not self._unwanted:
                    self._work.clear()

    async def _delete_unwanted(self) -> None:
        document_ids = tuple(self._unwanted)
        async with self._client.pipeline(transaction=False) as pipeline:
            for document_id in document_ids:
                pipeline.delete(*self._keys.of_document(document_id))
            await pipeline.execute()
        for document_id in document_ids:
            del self._unwanted[document_id]

    async def _copy_some(self) -> None:
        """Copy one batch of all that is behind.

        Raises:
            RedisError: some of it was not copied.
        """
        for behind in tuple(self._behind.values()):
            if not behind.replica.certain:
                await self._compare(behind.replica)
        sent: list[tuple[Replica, slice]] = []
        sent_at, size = monotonic(), 0
        async with self._client.pipeline(transaction=False) as pipeline:
            for behind in self._behind.values():
                begin = len(pipeline)
                size += behind.replica.write(pipeline)
                sent.append((behind.replica, slice(begin, len(pipeline))))
                if size > BATCH_BYTES:
                    break
            answers = await pipeline.execute(raise_on_error=False)
        for replica, part in sent:
            replica.check(answers[part])
            self._wait_in_line(replica, sent_at)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer

    async def _compare(self, replica: Replica) -> None:
        document_id = replica.log.record.id
        try:
            await replica.compare(self._client)
        except TakenOverError:
            if self._replicas.get(document_id) is not replica:
                return  # forgotten meanwhile
            logger.error("document %s was taken for lost by another server", document_id)
            self._give_up(document_id)
            self._end_document(document_id, SERVER_LOST, "other servers took this one for lost")

    def _wait_in_line(self, replica: Replica, since: float) -> None:
        """After a batch: what still lacks something goes behind the others."""
        document_id = replica.log.record.id
        if (behind := self._behind.pop(document_id, None)) is None:
            return  # forgotten meanwhile
        if not replica.complete:
            self._behind[document_id] = Behind(replica, since if replica.certain else behind.since)
        elif replica.log.ended:
            replica.span.end()
            del self._replicas[document_id]

    def _catch_up(self, replica: Replica) -> None:
        self._behind.setdefault(replica.log.record.id, Behind(replica, monotonic()))
        self._complete.clear()
        self._work.set()

    def _give_up_overdue(self) -> None:
        for document_id, behind in tuple(self._behind.items()):
            if monotonic() - behind.since > self._patience_s:
                logger.error("document %s can be read in this process only: Redis is away", document_id)
                metrics.JOURNAL_MIRRORS_GIVEN_UP.inc()
                self._give_up(document_id)
                self.delete(document_id)

    def _give_up(self, document_id: str) -> None:
        self._behind.pop(document_id, None)
        if (replica := self._replicas[document_id]) is not None:
            fail(replica.span, "given up")
            replica.span.end()
        self._replicas[document_id] = None
