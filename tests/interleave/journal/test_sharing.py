"""Documents that one server process makes and others read: the same events, once and in order."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from server.interleave.events import CANCELLED, DocumentEvent, TextDelta, status_after
from server.interleave.journal.base import DocumentNotFoundError, JournalTruncatedError
from server.interleave.journal.keys import read_entry
from server.interleave.journal.memory import MemoryJournal
from tests.interleave.journal.documents import STORY, forget, large, put, read, until
from tests.interleave.journal.sharing import is_forgotten, looking_into, process
from tests.redis_server import RedisServer


@pytest.fixture(scope="module", params=["one", "cluster"])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A Redis, and one that refuses commands over several slots."""
    with RedisServer(cluster=request.param == "cluster") as server:
        yield server


async def test_a_document_is_read_elsewhere_while_it_is_made(redis: RedisServer, namespace: str) -> None:
    async with process(redis.url, namespace) as owner, process(redis.url, namespace) as other:
        owner.maker.begin(owner.journal)
        reader = await other.journal.follow("doc", None)
        assert await anext(reader) == STORY[0]
        assert (await other.journal.stored("doc")).status == "in_progress"
        for event in STORY[1:]:
            owner.maker.make(count=1)
            assert await anext(reader) == event

        assert await read(reader) == []
        assert await other.journal.events_so_far("doc") == list(STORY)
        assert await other.journal.stored("doc") == await owner.journal.stored("doc")


async def test_a_document_outlives_the_process_that_made_it(redis: RedisServer, namespace: str) -> None:
    async with process(redis.url, namespace) as other:
        async with process(redis.url, namespace) as owner:
            owner.maker.begin(owner.journal)
            owner.maker.make()

        assert await read(await other.journal.follow("doc", None)) == list(STORY)
        assert await read(await other.journal.follow("doc", 2)) == list(STORY[3:])
        assert await read(await other.journal.follow("doc", 5)) == []
        assert (await other.journal.stored("doc")).status == "completed"


async def test_every_event_is_in_redis_once_under_its_number_and_nothing_stays_for_ever(
    redis: RedisServer, namespace: str
) -> None:
    async with process(redis.url, namespace) as owner:
        owner.maker.begin(owner.journal)
        owner.maker.make()
    async with looking_into(redis.url, namespace) as (client, keys):
        entries: Any = await client.xrange(keys.events("doc"))
        names = [name async for name in client.scan_iter(f"*{namespace}*")]
        lifetimes = [await client.pttl(name) for name in names]

    assert [id for id, _ in entries] == [b"%d-0" % n for n in range(1, len(STORY) + 1)]
    assert [read_entry(entry) for entry in entries] == list(STORY)
    assert set(map(bytes.decode, names)) >= set(keys.of_document("doc"))
    assert all(lifetime > 0 for lifetime in lifetimes)


async def test_two_readers_elsewhere_see_the_same(redis_server: RedisServer, namespace: str) -> None:
    url = redis_server.url
    async with process(url, namespace) as owner, process(url, namespace) as one, process(url, namespace) as two:
        owner.maker.begin(owner.journal)
        readings = [
            asyncio.create_task(read(await journal.follow("doc", None)))
            for journal in (owner.journal, one.journal, one.journal, two.journal)
        ]
        await read(await one.journal.follow("doc", None), 1)
        owner.maker.make()

        assert await asyncio.gather(*readings) == [list(STORY)] * 4


async def test_a_long_document_of_large_pictures_is_read_elsewhere(redis_server: RedisServer, namespace: str) -> None:
    events: list[DocumentEvent] = [
        STORY[0],
        *(large(n, 100_000) for n in range(1, 200)),
        replace(STORY[-1], sequence=200),
    ]
    async with process(redis_server.url, namespace) as owner, process(redis_server.url, namespace) as other:
        put(owner.maker.begin(owner.journal), events[1:])

        assert await read(await other.journal.follow("doc", None)) == events
        assert await other.journal.events_so_far("doc") == events


async def test_a_document_of_no_process_is_not_found(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 0)
    async with process(redis_server.url, namespace) as other:
        for document_id in ("doc", "", "{doc}", "a b", "a" * 1000):
            with pytest.raises(DocumentNotFoundError):
                await other.journal.stored(document_id)
            with pytest.raises(DocumentNotFoundError):
                await read(await other.journal.follow(document_id, None))


async def test_a_document_is_cancelled_from_elsewhere(redis: RedisServer, namespace: str) -> None:
    async with process(redis.url, namespace) as owner, process(redis.url, namespace) as other:
        owner.maker.begin(owner.journal)
        reading = asyncio.create_task(read(await other.journal.follow("doc", None)))
        await other.journal.cancel("doc")
        await other.journal.cancel("doc")

        assert [code for _, code, _ in owner.maker.ended] == [CANCELLED]
        assert await reading == await read(await owner.journal.follow("doc", None))
        assert (await other.journal.stored("doc")).status == "cancelled"


@pytest.mark.parametrize("ended", [True, False])
async def test_a_document_is_deleted_from_elsewhere(redis: RedisServer, namespace: str, ended: bool) -> None:
    async with process(redis.url, namespace) as owner, process(redis.url, namespace) as other:
        owner.maker.begin(owner.journal)
        if ended:
            owner.maker.make()
        await forget(other.journal)

        for journal in (owner.journal, other.journal):
            assert await is_forgotten(journal, "doc")


async def test_a_document_that_its_own_process_deletes_is_gone_everywhere(redis: RedisServer, namespace: str) -> None:
    async with process(redis.url, namespace) as owner, process(redis.url, namespace) as other:
        owner.maker.begin(owner.journal)
        await other.journal.stored("doc")
        await forget(owner.journal)

        assert await is_forgotten(other.journal, "doc")
    async with looking_into(redis.url, namespace) as (client, keys):
        assert [await client.exists(key) for key in keys.of_document("doc")] == [0, 0]


async def test_a_document_that_is_deleted_ends_for_its_readers_elsewhere(
    redis_server: RedisServer, namespace: str
) -> None:
    async with (
        process(redis_server.url, namespace) as owner,
        process(redis_server.url, namespace, abandon_after_s=0.3) as other,
    ):
        owner.maker.begin(owner.journal)
        events = await other.journal.follow("doc", None)
        begin = await anext(events)
        await forget(owner.journal)
        [end] = await read(events)

    assert (begin.sequence, end.sequence) == (0, 1)
    assert status_after(end) == "cancelled"


async def test_a_document_of_a_process_that_has_left_is_deleted(redis_server: RedisServer, namespace: str) -> None:
    async with process(redis_server.url, namespace) as other:
        async with process(redis_server.url, namespace) as owner:
            owner.maker.begin(owner.journal)
            owner.maker.make()
        await forget(other.journal)

        assert await is_forgotten(other.journal, "doc")


async def test_a_reader_elsewhere_counts_as_one(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    see = MemoryJournal.seen
    monkeypatch.setattr(MemoryJournal, "seen", lambda self, log: see(self, log) or seen.append(log.record.id))
    url = redis_server.url
    async with process(url, namespace) as owner, process(url, namespace, abandon_after_s=0.3) as other:
        owner.maker.begin(owner.journal)
        seen.clear()
        reading = asyncio.create_task(read(await other.journal.follow("doc", None)))
        await until(lambda: seen[2:] != [])
        owner.maker.make()

        assert await reading == list(STORY)
        assert set(seen) == {"doc"}


async def test_what_is_not_kept_here_any_more_is_not_kept_there(redis_server: RedisServer, namespace: str) -> None:
    url = redis_server.url
    async with process(url, namespace, document_bytes=25_000) as owner, process(url, namespace) as other:
        outlet = owner.maker.begin(owner.journal)
        await other.journal.stored("doc")
        for n in range(1, 6):
            outlet.put(large(n, 10_000))
        reader = await other.journal.follow("doc", 3)

        assert [(await anext(reader)).sequence for _ in range(2)] == [4, 5]
        await reader.aclose()
        assert (await other.journal.stored("doc")).first_kept == 4
        with pytest.raises(JournalTruncatedError):
            await read(await other.journal.follow("doc", 2))
        with pytest.raises(JournalTruncatedError):
            await other.journal.events_so_far("doc")


async def test_a_document_that_must_make_room_goes_from_redis_too(redis_server: RedisServer, namespace: str) -> None:
    url = redis_server.url
    async with process(url, namespace, total_bytes=25_000) as owner, process(url, namespace) as other:
        owner.maker.begin(owner.journal, "old")
        owner.maker.make("old")
        await other.journal.stored("old")
        put(owner.maker.begin(owner.journal, "new"), [large(1, 24_000)])
        await other.journal.stored("new")

        assert await is_forgotten(other.journal, "old")


async def test_the_last_events_are_in_redis_when_the_process_has_left(
    redis_server: RedisServer, namespace: str
) -> None:
    async with process(redis_server.url, namespace) as owner:
        put(owner.maker.begin(owner.journal), [TextDelta(n, 0, f"word {n}") for n in range(1, 5000)])
    async with looking_into(redis_server.url, namespace) as (client, keys):
        assert await client.xlen(keys.events("doc")) == 5000
