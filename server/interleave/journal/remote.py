"""Stored documents of other processes, as Redis has them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Any, ParamSpec, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from server.interleave.events import CANCELLED, DocumentEvent, DocumentFailed, Usage, is_last, status_after
from server.interleave.journal.base import (
    SERVER_LOST,
    DocumentNotFoundError,
    JournalTruncatedError,
    JournalUnavailableError,
    StoredDocument,
    first_wanted,
    was_lost,
)
from server.interleave.journal.codec import encode_event
from server.interleave.journal.keys import (
    DOCUMENT_ID,
    EVENT_FIELD,
    Keys,
    entry_fields,
    entry_id,
    entry_sequence,
    read_entry,
    read_record,
)
from server.interleave.journal.memory import END_LIMIT_S
from server.interleave.journal.peers import Absence, Peers, Wish

POLL_S = 0.1
ASK_AGAIN_S = 1.0
BEGIN_S = 0.5  # in which a mirror brings a new document to Redis
READ_EVENTS = 64
LARGE_BYTES = 2**18  # that take longer to read than a thread is asked to
UNREACHABLE = "the stored documents cannot be reached"

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class RemoteDocuments:
    """Reads documents that other processes make or have made, and has those processes end them.

    Readers look again and again, on no connection of their own. When a process has died, a reader writes the last event
    of its document, so that all readers see the same end. What the methods promise is said in
    :class:`~server.interleave.journal.base.Journal`.

    Args:
        client: of the Redis.
        keys: of the journal.
        peers: the other processes.
        patience_s: how long a reader waits for a Redis that is away.
        seen_every_s: how often a process is told that its document has a reader.
    """

    def __init__(self, client: Redis, keys: Keys, peers: Peers, *, patience_s: float, seen_every_s: float) -> None:
        self._client = client
        self._keys = keys
        self._peers = peers
        self._patience_s = patience_s
        self._seen_every_s = seen_every_s
        self._absence_s = peers.lease_s / 3
        self._released = False

    async def follow(self, document_id: str, after: int | None) -> AsyncGenerator[DocumentEvent, None]:
        owner = await self._patiently(self._owner, document_id)
        return self._events_after(document_id, after, owner)

    async def _events_after(
        self, document_id: str, after: int | None, owner: str
    ) -> AsyncGenerator[DocumentEvent, None]:
        place = first_wanted(after)
        absence = Absence(self._absence_s)
        see_again_at = -inf
        while not self._released:
            if monotonic() >= see_again_at:
                try:
                    latest = await self._patiently(self._see, document_id, owner)
                except DocumentNotFoundError:
                    yield DocumentFailed(place, CANCELLED, "the document was deleted", Usage())
                    return
                if is_last(latest) and latest.sequence < place:
                    if was_lost(latest):  # and with it what this reader had from the process itself
                        yield replace(latest, sequence=place)
                    return
                see_again_at = monotonic() + self._seen_every_s
            events = await self._patiently(self._read, document_id, place)
            for event in events:
                if event.sequence != place and not was_lost(event):
                    raise JournalTruncatedError(document_id)
                yield event
                if is_last(event):
                    return
                place = event.sequence + 1
            if not events and absence.lasts(await self._patiently(self._peers.live, owner)):
                await self._patiently(self._end_lost, document_id, place)
                see_again_at = -inf
            elif len(events) < READ_EVENTS:
                await asyncio.sleep(POLL_S)

    def release_readers(self) -> None:
        self._released = True

    async def events_so_far(self, document_id: str) -> list[DocumentEvent]:
        with reachable():
            owner = await self._owner(document_id)
            await self._settle(document_id, await self._see(document_id, owner), owner)
            events: list[DocumentEvent] = []
            while more := await self._read(document_id, events[-1].sequence + 1 if events else 0):
                events += more
        if not all(event.sequence == place or was_lost(event) for place, event in enumerate(events)):
            raise JournalTruncatedError(document_id)
        return events

    async def stored(self, document_id: str) -> StoredDocument:
        with reachable():
            owner = await self._owner(document_id)
            latest = await self._settle(document_id, await self._see(document_id, owner), owner)
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hgetall(self._keys.record(document_id))
                pipeline.xrange(self._keys.events(document_id), count=1)
                fields, oldest = await pipeline.execute()
        if not (fields and oldest):
            raise DocumentNotFoundError(document_id)
        record, first_kept = read_record(document_id, fields), entry_sequence(oldest[0][0])
        return await asyncio.to_thread(record.stored, status_after(latest), first_kept)

    async def cancel(self, document_id: str) -> None:
        async def ended() -> bool:
            return is_last(await self._latest(document_id))

        with reachable():
            owner = await self._owner(document_id)
            if not await self._insist(owner, Wish.CANCEL, document_id, ended):
                await self._end_lost(document_id)

    async def delete(self, document_id: str) -> None:
        async def gone() -> bool:
            return not await self._client.exists(self._keys.record(document_id))

        with reachable():
            owner = await self._owner(document_id)
            if not await self._insist(owner, Wish.DELETE, document_id, gone):
                await self._client.delete(*self._keys.of_document(document_id))

    async def _owner(self, document_id: str) -> str:
        """Id of the process that makes or made a document.

        Raises:
            DocumentNotFoundError: Redis does not have the document, nor gets it in the time that a mirror needs.
        """
        give_up_at = monotonic() + BEGIN_S
        while DOCUMENT_ID.fullmatch(document_id):
            owner = cast(bytes | None, await self._client.hget(self._keys.record(document_id), "owner"))
            if owner is not None:
                return owner.decode()
            if monotonic() > give_up_at:
                break
            await asyncio.sleep(POLL_S)
        raise DocumentNotFoundError(document_id)

    async def _latest(self, document_id: str) -> DocumentEvent:
        """The latest event of a document.

        Raises:
            DocumentNotFoundError: it has none.
        """
        found: Any = await self._client.xrevrange(self._keys.events(document_id), count=1)
        if not found:
            raise DocumentNotFoundError(document_id)
        return read_entry(found[0])

    async def _see(self, document_id: str, owner: str) -> DocumentEvent:
        """The latest event; the process that makes the document is told that somebody wants it."""
        latest = await self._latest(document_id)
        if not is_last(latest):
            await self._peers.ask(owner, Wish.SEE, document_id)
        return latest

    async def _read(self, document_id: str, place: int) -> list[DocumentEvent]:
        """The next events, if there are any yet."""
        events = self._keys.events(document_id)
        entries: Any = await self._client.xrange(events, min=entry_id(place), count=READ_EVENTS)
        if sum(len(fields.get(EVENT_FIELD, b"")) for _, fields in entries) < LARGE_BYTES:
            return [read_entry(entry) for entry in entries]
        return await asyncio.to_thread(lambda: [read_entry(entry) for entry in entries])

    async def _settle(self, document_id: str, latest: DocumentEvent, owner: str) -> DocumentEvent:
        """The latest event of a document, which is its last if nobody makes it any more."""
        absence = Absence(self._absence_s)
        while not is_last(latest) and not (alive := await self._peers.live(owner)):
            if absence.lasts(alive):
                return await self._end_lost(document_id)
            await asyncio.sleep(POLL_S)
        return latest

    async def _end_lost(self, document_id: str, place: int = 0) -> DocumentEvent:
        """Write the last event of a document whose process has died, unless it has one. Returns that.

        Args:
            document_id: of the document.
            place: sequence number of the event that a reader waits for: what was before it, somebody has seen.
        """
        events = self._keys.events(document_id)

        async def end(pipeline: Pipeline) -> DocumentEvent | None:
            found: Any = await pipeline.xrevrange(events, count=1)
            pipeline.multi()  # type: ignore[no-untyped-call]
            latest = read_entry(found[0]) if found else None
            if latest is None or is_last(latest):
                return latest
            message = "the server that made the document was lost"
            lost = DocumentFailed(max(place, latest.sequence + 1), SERVER_LOST, message, Usage())
            pipeline.xadd(events, entry_fields(encode_event(lost)), id=entry_id(lost.sequence))
            return lost

        ended: DocumentEvent | None = await self._client.transaction(end, events, value_from_callable=True)
        if ended is None:
            raise DocumentNotFoundError(document_id)
        return ended

    async def _insist(self, owner: str, wish: Wish, document_id: str, granted: Callable[[], Awaitable[bool]]) -> bool:
        """Ask a process for something until it has happened. False if the process is dead.

        Raises:
            JournalUnavailableError: the process lives and does not do it.
        """
        absence = Absence(self._absence_s)
        ask_again_at = -inf
        try:
            async with asyncio.timeout(END_LIMIT_S):
                while not await granted():
                    if absence.lasts(await self._peers.live(owner)):
                        return False
                    if monotonic() >= ask_again_at:
                        await self._peers.ask(owner, wish, document_id)
                        ask_again_at = monotonic() + ASK_AGAIN_S
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            message = f"the server that makes document {document_id!r} does not answer"
            raise JournalUnavailableError(message) from None
        return True

    async def _patiently(
        self, ask: Callable[Asked, Awaitable[Answer]], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Answer:
        """What Redis answers, which may be away for a while.

        Raises:
            JournalUnavailableError: it was away for too long.
        """
        give_up_at = monotonic() + self._patience_s
        while True:
            try:
                return await ask(*args, **kwargs)
            except RedisError as error:
                if monotonic() > give_up_at:
                    raise JournalUnavailableError(UNREACHABLE) from error
            await asyncio.sleep(POLL_S)


@contextmanager
def reachable() -> Iterator[None]:
    """Say of a Redis that is away what callers should know of it."""
    try:
        yield
    except RedisError as error:
        raise JournalUnavailableError(UNREACHABLE) from error
