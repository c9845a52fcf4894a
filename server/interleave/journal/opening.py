"""Which journal a server has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.interleave.journal.base import Journal
from server.interleave.journal.memory import EndDocument, MemoryJournal
from server.interleave.journal.redis import RedisJournal
from server.settings import Settings


@asynccontextmanager
async def open_journal(settings: Settings, end_document: EndDocument) -> AsyncIterator[Journal]:
    """A journal for this process, shared with others if they have a Redis in common.

    Args:
        settings: of the server.
        end_document: ends a running document of this process.

    Raises:
        ValueError: the URL of the Redis is wrong.
    """
    if settings.redis.url is None:
        memory = MemoryJournal(settings.journal, end_document)
        try:
            yield memory
        finally:
            memory.close()
    else:
        shared = RedisJournal(settings.journal, settings.redis, end_document)
        shared.start()
        try:
            yield shared
        finally:
            await shared.close()
