"""Journals that share a Redis, as those of several server processes do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from redis.asyncio import Redis

from server.interleave.journal.base import DocumentNotFoundError, Journal
from server.interleave.journal.keys import Keys
from server.interleave.journal.redis import RedisJournal
from server.pool.connection import connect
from server.settings import JournalSettings, RedisSettings
from tests.cutting_proxy import CuttingProxy
from tests.interleave.journal.documents import Maker
from tests.redis_server import HOST, RedisServer

LEASE_S = 0.6


@dataclass(frozen=True)
class Process:
    """A server process, as far as its stored documents go.

    Attributes:
        journal: of the process.
        maker: makes its documents.
    """

    journal: RedisJournal
    maker: Maker


@asynccontextmanager
async def process(url: str, namespace: str, *, patience_s: float = 20.0, **settings: Any) -> AsyncIterator[Process]:
    """A process that shares the Redis at a URL."""
    maker = Maker()
    redis = RedisSettings(url=url, namespace=namespace, lease_s=LEASE_S, patience_s=patience_s)
    journal = RedisJournal(JournalSettings(**settings), redis, maker.end)
    journal.start()
    try:
        yield Process(journal, maker)
    finally:
        await journal.close()


@asynccontextmanager
async def process_behind_proxy(
    server: RedisServer, namespace: str, **settings: Any
) -> AsyncIterator[tuple[Process, CuttingProxy]]:
    """A process whose connections to Redis the test can break."""
    async with (
        CuttingProxy(server.port) as proxy,
        process(f"redis://{HOST}:{proxy.port}/0", namespace, **settings) as sharing,
    ):
        yield sharing, proxy


@asynccontextmanager
async def looking_into(url: str, namespace: str) -> AsyncIterator[tuple[Redis, Keys]]:
    """A client of the Redis, and the names of its keys."""
    async with connect(url) as client:
        yield client, Keys(namespace)


async def is_forgotten(journal: Journal, document_id: str) -> bool:
    """Whether a journal does not have a document, asked once."""
    with patch("server.interleave.journal.remote.BEGIN_S", 0):
        try:
            await journal.stored(document_id)
        except DocumentNotFoundError:
            return True
    return False
