"""When Redis is away, or a server process: readers wait or are told, and what they see stays true."""

import asyncio
import random
from typing import cast

import pytest

from server.interleave.events import DocumentEvent, DocumentFailed, DocumentStarted, TextDelta
from server.interleave.journal.base import SERVER_LOST, JournalUnavailableError
from server.interleave.journal.keys import read_entry
from server.observe.metrics import JOURNAL_MIRRORS_GIVEN_UP
from tests.interleave.journal.documents import STORY, forget, read, until
from tests.interleave.journal.sharing import is_forgotten, looking_into, process, process_behind_proxy
from tests.redis_server import RedisServer


@pytest.fixture(autouse=True)
def leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that cannot reach Redis do not try for long when they leave."""
    monkeypatch.setattr("server.interleave.journal.redis.FLUSH_LIMIT_S", 0.05)


def words(count: int) -> list[DocumentEvent]:
    return [DocumentStarted(0, "doc", "model", 1), *(TextDelta(n, 0, f"word {n} ") for n in range(1, count))]


def is_lost(event: DocumentEvent) -> bool:
    return isinstance(event, DocumentFailed) and event.code == SERVER_LOST


async def sign_of_life_is_gone(url: str, namespace: str) -> None:
    """Return when the key of the process that makes the document has expired."""
    async with looking_into(url, namespace) as (client, keys), asyncio.timeout(20):
        owner = cast(bytes, await client.hget(keys.record("doc"), "owner")).decode()
        while await client.exists(keys.alive(owner)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_document_whose_process_dies_ends_alike_for_all_its_readers(
    redis_server: RedisServer, namespace: str
) -> None:
    url = redis_server.url
    async with (
        process(url, namespace) as one,
        process(url, namespace) as two,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
    ):
        owner.maker.begin(owner.journal)
        owner.maker.make(count=2)
        readings = [asyncio.create_task(read(await p.journal.follow("doc", None))) for p in (one, one, two)]
        await read(await two.journal.follow("doc", None), 3)
        await proxy.refuse()
        first, *others = await asyncio.gather(*readings)

        assert first[:-1] == list(STORY[:3])
        assert is_lost(first[-1])
        assert first[-1].sequence == 3
        assert others == [first, first]
        assert await two.journal.events_so_far("doc") == first
        assert (await two.journal.stored("doc")).status == "failed"


@pytest.mark.parametrize("ask", ["stored", "events_so_far", "cancel", "delete"])
async def test_whoever_asks_for_a_document_of_a_dead_process_finds_that_it_has_ended(
    redis_server: RedisServer, namespace: str, ask: str
) -> None:
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
    ):
        owner.maker.begin(owner.journal)
        await read(await other.journal.follow("doc", None), 1)
        await proxy.refuse()
        await sign_of_life_is_gone(redis_server.url, namespace)
        await getattr(other.journal, ask)("doc")

        if ask == "delete":
            assert await is_forgotten(other.journal, "doc")
        else:
            assert is_lost((await other.journal.events_so_far("doc"))[-1])


async def test_a_reader_who_saw_more_than_redis_did_is_told_of_the_loss_too(
    redis_server: RedisServer, namespace: str
) -> None:
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
    ):
        owner.maker.begin(owner.journal)
        await read(await other.journal.follow("doc", None), 1)
        await proxy.refuse()
        owner.maker.make(count=3)
        ahead = await read(await owner.journal.follow("doc", None), 4)
        behind = await read(await other.journal.follow("doc", 0))
        resumed = await read(await other.journal.follow("doc", ahead[-1].sequence))

    assert [event.sequence for event in behind] == [1]
    assert [event.sequence for event in resumed] == [4]
    assert is_lost(behind[0])
    assert is_lost(resumed[0])


@pytest.mark.parametrize("made", [1, 3])
async def test_a_process_that_was_taken_for_dead_accepts_the_end_that_others_saw(
    redis_server: RedisServer, namespace: str, made: int
) -> None:
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
    ):
        owner.maker.begin(owner.journal)
        await read(await other.journal.follow("doc", None), 1)
        await proxy.refuse()
        lost = await read(await other.journal.follow("doc", None))
        owner.maker.make(count=made)
        await proxy.heal()
        await until(lambda: bool(owner.maker.ended))

        assert owner.maker.ended[0][:2] == ("doc", SERVER_LOST)
        assert await other.journal.events_so_far("doc") == lost
        assert (await owner.journal.stored("doc")).status == (await other.journal.stored("doc")).status == "failed"


async def test_while_redis_is_away_readers_here_go_on_and_readers_elsewhere_wait(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.interleave.journal.remote.POLL_S", 0.001)
    async with (
        process_behind_proxy(redis_server, namespace) as (owner, owners_proxy),
        process_behind_proxy(redis_server, namespace) as (other, others_proxy),
    ):
        owner.maker.begin(owner.journal)
        elsewhere = await other.journal.follow("doc", None)
        seen = [await anext(elsewhere)]
        await owners_proxy.refuse()
        await others_proxy.refuse()
        waiting = asyncio.create_task(read(elsewhere))
        owner.maker.make()

        assert await read(await owner.journal.follow("doc", None)) == list(STORY)
        assert owner.journal.load().mirror_lag_s > 0
        for _ in range(3):  # longer than a reader tries to connect
            with pytest.raises(JournalUnavailableError):
                await other.journal.stored("doc")
        await owners_proxy.heal()
        await others_proxy.heal()
        assert [*seen, *await waiting] == list(STORY)
        await until(lambda: owner.journal.load().mirror_lag_s == 0)


async def test_a_reader_does_not_wait_for_redis_for_ever(redis_server: RedisServer, namespace: str) -> None:
    async with (
        process(redis_server.url, namespace) as owner,
        process_behind_proxy(redis_server, namespace, patience_s=0.05) as (other, proxy),
    ):
        owner.maker.begin(owner.journal)
        reader = await other.journal.follow("doc", None)
        await anext(reader)
        await proxy.refuse()

        with pytest.raises(JournalUnavailableError):
            await anext(reader)


async def test_documents_that_waited_too_long_for_redis_are_read_here_only(
    redis_server: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    given_up = JOURNAL_MIRRORS_GIVEN_UP._value.get()
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace, patience_s=0.05) as (owner, proxy),
    ):
        owner.maker.begin(owner.journal, "given-up")
        await read(await other.journal.follow("given-up", None), 1)
        await proxy.refuse()
        owner.maker.make("given-up", count=2)
        await until(lambda: JOURNAL_MIRRORS_GIVEN_UP._value.get() == given_up + 1)
        await proxy.heal()
        owner.maker.make("given-up")
        owner.maker.begin(owner.journal, "next")
        owner.maker.make("next")

        assert await read(await owner.journal.follow("given-up", None)) == list(STORY)
        assert await read(await other.journal.follow("next", None)) == list(STORY)
        assert await is_forgotten(other.journal, "given-up")
    assert "given-up can be read in this process only" in caplog.text


async def test_a_redis_that_lost_its_data_gets_the_running_documents_again(
    own_redis_server: RedisServer, namespace: str
) -> None:
    url = own_redis_server.url
    async with process(url, namespace) as owner, process(url, namespace) as other:
        owner.maker.begin(owner.journal, "silent")
        owner.maker.begin(owner.journal, "busy")
        for document_id in ("silent", "busy"):
            await read(await other.journal.follow(document_id, None), 1)
        await asyncio.to_thread(own_redis_server.restart, keep_data=False)
        owner.maker.make("busy", count=2)

        assert await read(await other.journal.follow("busy", None), 3) == list(STORY[:3])
        async with looking_into(url, namespace) as (client, keys):
            async with asyncio.timeout(20):
                while not await client.exists(keys.events("silent")):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        for document_id in ("silent", "busy"):
            owner.maker.make(document_id)
            assert await read(await other.journal.follow(document_id, None)) == list(STORY)


async def test_a_document_that_is_deleted_while_it_is_renewed_does_not_come_back(
    redis_server: RedisServer, namespace: str
) -> None:
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
        looking_into(redis_server.url, namespace) as (client, keys),
    ):
        owner.maker.begin(owner.journal)
        await read(await other.journal.follow("doc", None), 1)
        proxy.black_hole()
        await client.delete(*keys.of_document("doc"))
        renewing = asyncio.create_task(owner.journal._mirror.renew())
        deleting = asyncio.create_task(forget(owner.journal))
        await until(lambda: owner.journal.load().documents == 0)
        await proxy.heal()
        await asyncio.gather(renewing, deleting)
        owner.maker.begin(owner.journal, "next")
        await read(await other.journal.follow("next", None), 1)

        assert [await client.exists(key) for key in keys.of_document("doc")] == [0, 0]


async def test_a_document_that_is_deleted_while_it_is_written_does_not_come_back(
    redis_server: RedisServer, namespace: str
) -> None:
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
        looking_into(redis_server.url, namespace) as (client, keys),
    ):
        await until(lambda: proxy.accepted > 0)
        proxy.black_hole()
        owner.maker.begin(owner.journal)
        await asyncio.sleep(0.05)  # whether it is under way by now or not, it must not come back
        deleting = asyncio.create_task(forget(owner.journal))
        await until(lambda: owner.journal.load().documents == 0)
        await proxy.heal()
        await deleting
        owner.maker.begin(owner.journal, "next")
        await read(await other.journal.follow("next", None), 1)

        assert [await client.exists(key) for key in keys.of_document("doc")] == [0, 0]


async def test_a_redis_that_is_full_is_waited_for(own_redis_server: RedisServer, namespace: str) -> None:
    url = own_redis_server.url
    async with process(url, namespace) as owner, process(url, namespace) as other:
        owner.maker.begin(owner.journal)
        reader = await other.journal.follow("doc", None)
        seen = [await anext(reader)]
        async with looking_into(url, namespace) as (client, _):
            await client.config_set("maxmemory", "1")
            owner.maker.make()
            await until(lambda: owner.journal.load().mirror_lag_s > 0.1)
            await client.config_set("maxmemory", "0")

        assert [*seen, *await read(reader)] == list(STORY)


async def test_a_process_that_does_not_do_what_it_is_asked_is_not_waited_for_for_ever(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.interleave.journal.remote.END_LIMIT_S", 0.3)
    async with process(redis_server.url, namespace) as owner, process(redis_server.url, namespace) as other:
        monkeypatch.setattr(owner.journal, "_end_document", lambda *_: None)
        owner.maker.begin(owner.journal)
        with pytest.raises(JournalUnavailableError, match="does not answer"):
            await other.journal.cancel("doc")


async def test_a_request_that_is_none_is_refused(
    redis_server: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        process(redis_server.url, namespace) as owner,
        process(redis_server.url, namespace) as other,
        looking_into(redis_server.url, namespace) as (client, keys),
    ):
        owner.maker.begin(owner.journal)
        await other.journal.stored("doc")
        owner_id = cast(bytes, await client.hget(keys.record("doc"), "owner")).decode()
        await client.rpush(keys.requests(owner_id), b"\xff", "dance doc", "cancel other", "delete other")
        await other.journal.cancel("doc")

        assert [document_id for document_id, *_ in owner.maker.ended] == ["doc"]
    assert "a request of another server was refused" in caplog.text


async def test_what_is_no_event_in_redis_is_written_again(redis_server: RedisServer, namespace: str) -> None:
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
        looking_into(redis_server.url, namespace) as (client, keys),
    ):
        owner.maker.begin(owner.journal)
        await read(await other.journal.follow("doc", None), 1)
        await proxy.refuse()
        await client.xadd(keys.events("doc"), {"event": b"?"}, id="2-0")
        owner.maker.make()
        await proxy.heal()
        await until(lambda: owner.journal.load().mirror_lag_s == 0)

        assert await read(await other.journal.follow("doc", None)) == list(STORY)


@pytest.mark.parametrize("seed", range(5))
async def test_connections_that_break_while_events_are_written_lose_none_and_write_none_twice(
    redis_server: RedisServer, namespace: str, seed: int
) -> None:
    events = words(400)
    random.seed(seed)
    async with (
        process(redis_server.url, namespace) as other,
        process_behind_proxy(redis_server, namespace) as (owner, proxy),
    ):
        outlet = owner.maker.begin(owner.journal)
        reading = asyncio.create_task(read(await other.journal.follow("doc", None), len(events)))
        for event in events[1:]:
            outlet.put(event)
            if random.random() < 0.3:
                await asyncio.sleep(random.random() * 0.01)
            if random.random() < 0.05:
                await proxy.cut()

        assert await reading == events
        assert proxy.accepted > 5
    async with looking_into(redis_server.url, namespace) as (client, keys):
        entries = await client.xrange(keys.events("doc"))
    assert [read_entry(entry) for entry in entries] == events


async def test_a_redis_that_is_away_when_the_process_leaves_does_not_keep_it(
    redis_server: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with process_behind_proxy(redis_server, namespace) as (owner, proxy):
        await proxy.refuse()
        owner.maker.begin(owner.journal)
    assert "1 stored documents are not all in Redis" in caplog.text
