"""Which store of pictures a server has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from server.files.base import ImageStore, StorageError
from server.files.filesystem import FilesystemImageStore
from server.files.memory import MemoryImageStore
from server.files.redis import RedisImageStore
from server.pool.connection import connect
from server.settings import FilesSettings, RedisSettings, Settings
from server.tasks import end

MEMORY = "memory://"
REDIS = "redis://"
SHORTEST_SWEEP_S, LONGEST_SWEEP_S = 1.0, 600.0


@asynccontextmanager
async def open_image_store(settings: Settings) -> AsyncIterator[ImageStore]:
    """The store that the settings name.

    Raises:
        StorageError: it cannot be written to.
        ValueError: its URL is wrong.
        ImportError: the package for its URL is not installed.
    """
    files = settings.files
    target = files.target_url(settings.redis)
    if target == MEMORY:
        yield MemoryImageStore(files.max_bytes, files.ttl_s)
        return
    opened = open_redis(files, settings.redis) if target == REDIS else open_filesystem(target, files.ttl_s)
    async with opened as store:
        yield store


@asynccontextmanager
async def open_redis(files: FilesSettings, redis: RedisSettings) -> AsyncIterator[ImageStore]:
    """Pictures in the Redis of the pool. It need not be there yet."""
    url = redis.url.get_secret_value() if redis.url else ""
    client = connect(url, name="dreamserve-files")
    try:
        yield RedisImageStore(client, redis.namespace, files.ttl_s, redis.patience_s)
    finally:
        await client.aclose()


@asynccontextmanager
async def open_filesystem(url: str, ttl_s: float) -> AsyncIterator[ImageStore]:
    """Pictures as files, swept from time to time."""
    store = FilesystemImageStore(url, ttl_s)
    await store.open()
    every_s = min(max(ttl_s / 4, SHORTEST_SWEEP_S), LONGEST_SWEEP_S)
    sweeping = asyncio.create_task(sweep_for_ever(store, every_s), name="sweep of pictures")
    try:
        yield store
    finally:
        await end([sweeping])
        store.close()


async def sweep_for_ever(store: FilesystemImageStore, every_s: float) -> None:
    """Sweep again and again; what could not be deleted is tried the next time."""
    while True:
        with suppress(StorageError):  # which the store has logged
            await store.sweep()
        await asyncio.sleep(every_s)
