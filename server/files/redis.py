"""Pictures in Redis, for all server processes that share it."""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from server.files.base import StorageError, StoredImage

RETRY_S = 0.2

logger = logging.getLogger(__name__)


class RedisImageStore:
    """Keeps each picture under one key with a time to live, so that a cluster may spread them.

    Args:
        client: of the Redis; the store does not close it.
        namespace: sets apart what shares a Redis.
        ttl_s: how long a picture is kept.
        patience_s: how long a picture waits for a Redis that is away or full.
    """

    def __init__(self, client: Redis, namespace: str, ttl_s: float, patience_s: float) -> None:
        self._client = client
        self._namespace = namespace
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._patience_s = patience_s

    async def put(self, id: str, data: bytes) -> None:
        give_up_at = monotonic() + self._patience_s
        while True:
            try:
                await self._client.set(self._key(id), data, px=self._ttl_ms)
                return
            except RedisError as error:
                if monotonic() > give_up_at:
                    raise storage_error(error) from error
            await asyncio.sleep(RETRY_S)

    async def get(self, id: str) -> StoredImage | None:
        key = self._key(id)
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(key)
                pipeline.pttl(key)
                answers: tuple[bytes | None, Any] = tuple(await pipeline.execute())
        except RedisError as error:
            raise storage_error(error) from error
        data, ttl_ms = answers
        # It may expire between the two commands.
        return StoredImage(data, ttl_ms / 1000) if data is not None and ttl_ms > 0 else None

    async def delete(self, ids: Sequence[str]) -> None:
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for id in ids:
                    pipeline.unlink(self._key(id))
                await pipeline.execute()
        except RedisError as error:
            raise storage_error(error) from error

    def _key(self, id: str) -> str:
        return f"{self._namespace}:image:{id}"


def storage_error(error: RedisError) -> StorageError:
    """What callers are told of a Redis that does not serve."""
    logger.warning("Redis keeps no pictures: %s", error)
    if isinstance(error, OutOfMemoryError):
        return StorageError("storage_full", "there is no room for the picture")
    return StorageError("storage_failed", "the store of pictures cannot be reached")
