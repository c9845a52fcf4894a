"""Pictures in a real Redis: shared, expiring there, with clear errors when it does not serve."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.files.base import StorageError, new_image_id
from server.files.redis import RedisImageStore
from server.pool.connection import connect
from tests.redis_server import RedisServer


@asynccontextmanager
async def redis_store(url: str, namespace: str, patience_s: float = 0.0) -> AsyncIterator[RedisImageStore]:
    """A store of a server process."""
    client = connect(url, timeout_s=1.0)
    try:
        yield RedisImageStore(client, namespace, ttl_s=60, patience_s=patience_s)
    finally:
        await client.aclose()


async def fill(store: RedisImageStore) -> None:
    """Put more than 2 MB there."""
    for _ in range(10):
        await store.put(new_image_id(), bytes(1_000_000))


async def test_other_processes_have_the_picture_too(redis_server: RedisServer, namespace: str) -> None:
    id = new_image_id()
    async with redis_store(redis_server.url, namespace) as writer, redis_store(redis_server.url, namespace) as reader:
        await writer.put(id, b"picture")
        stored = await reader.get(id)

    assert stored is not None
    assert stored.data == b"picture"


async def test_namespaces_are_apart(redis_server: RedisServer, namespace: str) -> None:
    id = new_image_id()
    async with redis_store(redis_server.url, namespace) as one, redis_store(redis_server.url, f"{namespace}x") as other:
        await one.put(id, b"picture")

        assert await other.get(id) is None


async def test_redis_itself_forgets_the_picture(redis_server: RedisServer, namespace: str) -> None:
    id = new_image_id()
    async with redis_store(redis_server.url, namespace) as store:
        await store.put(id, b"picture")

    with redis_server.client() as client:
        [key] = client.keys(f"{namespace}:*")
        assert 0 < client.pttl(key) <= 60_000


async def test_a_cluster_may_spread_the_pictures(namespace: str) -> None:
    ids = [new_image_id() for _ in range(5)]
    with RedisServer(cluster=True) as server:
        async with redis_store(server.url, namespace) as store:
            for id in ids:
                await store.put(id, id.encode())
            stored = [await store.get(id) for id in ids]

    assert [image.data.decode() for image in stored if image] == ids


async def test_a_full_redis_is_told_apart(namespace: str) -> None:
    with RedisServer(maxmemory="2mb") as server:
        async with redis_store(server.url, namespace) as store:
            with pytest.raises(StorageError) as failed:
                await fill(store)

    assert failed.value.code == "storage_full"


async def test_a_redis_that_is_away_fails_reading_and_writing(namespace: str) -> None:
    with RedisServer() as server:
        async with redis_store(server.url, namespace) as store:
            server.stop()
            for doing in (store.put(new_image_id(), b"picture"), store.get(new_image_id())):
                with pytest.raises(StorageError) as failed:
                    await doing
                assert failed.value.code == "storage_failed"


async def test_a_picture_waits_for_a_redis_that_comes_back(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    id = new_image_id()
    with RedisServer() as server:
        async with redis_store(server.url, namespace, patience_s=60) as store:
            server.stop()

            async def come_back(_: float) -> None:
                server.start()

            monkeypatch.setattr("server.files.redis.asyncio.sleep", come_back)
            await store.put(id, b"picture")
            assert await store.get(id) is not None
