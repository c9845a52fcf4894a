"""Pictures in memory, within bounds of bytes and time."""

import pytest

from server.files.base import StorageError
from server.files.memory import MemoryImageStore


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def kept(store: MemoryImageStore, *ids: str) -> list[str]:
    """Those of the ids that the store has."""
    return [id for id in ids if await store.get(id) is not None]


async def test_the_oldest_make_room() -> None:
    store = MemoryImageStore(max_bytes=10, ttl_s=60)
    await store.put("a", b"1234")
    await store.put("b", b"1234")

    await store.put("c", b"123")

    assert await kept(store, "a", "b", "c") == ["b", "c"]


async def test_what_is_larger_than_the_store_is_refused_and_costs_nothing() -> None:
    store = MemoryImageStore(max_bytes=10, ttl_s=60)
    await store.put("a", b"1234")

    with pytest.raises(StorageError) as refused:
        await store.put("b", bytes(11))

    assert refused.value.code == "storage_full"
    assert await kept(store, "a", "b") == ["a"]


async def test_each_is_kept_for_its_time() -> None:
    clock = Clock()
    store = MemoryImageStore(max_bytes=100, ttl_s=60, now=clock)
    await store.put("a", b"1")
    clock.now = 30.0
    await store.put("b", b"2")

    clock.now = 59.0
    stored = await store.get("a")
    assert stored is not None
    assert stored.seconds_left == 1.0

    clock.now = 60.0
    assert await kept(store, "a", "b") == ["b"]


async def test_expired_pictures_take_no_room() -> None:
    clock = Clock()
    store = MemoryImageStore(max_bytes=10, ttl_s=60, now=clock)
    await store.put("a", bytes(10))
    clock.now = 60.0

    await store.put("b", bytes(5))
    await store.put("c", bytes(5))

    assert await kept(store, "b", "c") == ["b", "c"]
