"""The journal of one process: what it keeps, for how long, and what it gives up first."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.interleave.events import CANCELLED
from server.interleave.journal.base import DocumentNotFoundError, JournalError, JournalUnavailableError
from server.interleave.journal.memory import MemoryJournal
from server.settings import JournalSettings
from tests.interleave.journal.documents import STORY, Maker, forget, large, put, read, until


@asynccontextmanager
async def opened(maker: Maker, **settings: Any) -> AsyncIterator[MemoryJournal]:
    journal = MemoryJournal(JournalSettings(**settings), maker.end)
    try:
        yield journal
    finally:
        journal.close()


def kept(journal: MemoryJournal, *document_ids: str) -> list[str]:
    return [document_id for document_id in document_ids if journal.find(document_id)]


async def test_a_document_can_be_read_again_and_again() -> None:
    maker = Maker()
    async with opened(maker) as journal:
        maker.begin(journal)
        assert (await journal.stored("doc")).status == "in_progress"
        assert await journal.events_so_far("doc") == [STORY[0]]
        maker.make()

        assert await journal.events_so_far("doc") == list(STORY)
        assert (
            await read(await journal.follow("doc", None))
            == await read(await journal.follow("doc", None))
            == list(STORY)
        )
        stored = await journal.stored("doc")

    assert (stored.id, stored.surface, stored.request, stored.created) == ("doc", "interleaved", {"n": 1}, 1)
    assert stored.status == "completed"


@pytest.mark.parametrize("ask", ["follow", "events_so_far", "stored", "cancel", "delete"])
async def test_an_unknown_document_is_not_found(ask: str) -> None:
    async with opened(Maker()) as journal:
        asked: dict[str, Callable[[], Any]] = {
            "follow": lambda: journal.follow("other", None),
            "events_so_far": lambda: journal.events_so_far("other"),
            "stored": lambda: journal.stored("other"),
            "cancel": lambda: journal.cancel("other"),
            "delete": lambda: journal.delete("other"),
        }
        with pytest.raises(DocumentNotFoundError):
            await asked[ask]()


async def test_when_room_is_short_what_ended_first_goes_first() -> None:
    maker = Maker()
    async with opened(maker, total_bytes=40_000) as journal:
        for document_id in ("a", "b", "c"):
            put(maker.begin(journal, document_id), [large(1, 10_000)])
        maker.make("b")
        maker.make("a")
        put(maker.begin(journal, "d"), [large(1, 10_000)])
        assert kept(journal, "a", "b", "c", "d") == ["a", "c", "d"]
        put(maker.begin(journal, "e"), [large(1, 10_000)])

        assert kept(journal, "a", "b", "c", "d", "e") == ["c", "d", "e"]
        assert journal.load().bytes <= 40_000
        assert journal.load().documents == 3


async def test_when_nothing_has_ended_the_largest_document_loses_its_oldest_events() -> None:
    maker = Maker()
    async with opened(maker, total_bytes=50_000) as journal:
        small, large_one = maker.begin(journal, "small"), maker.begin(journal, "large")
        put(small, [large(1, 10_000)])
        put(large_one, [large(n, 10_000) for n in range(1, 8)])

        assert (await journal.stored("small")).first_kept == 0
        assert (await journal.stored("large")).first_kept == 5
        assert journal.load().bytes <= 50_000


async def test_a_document_is_forgotten_after_a_while() -> None:
    maker = Maker()
    async with opened(maker, retention_s=0.01) as journal:
        maker.begin(journal, "running")
        maker.begin(journal, "ended")
        maker.make("ended")
        await until(lambda: journal.find("ended") is None)

        assert kept(journal, "running", "ended") == ["running"]
        maker.make("running")
        await until(lambda: journal.find("running") is None)
        assert journal.load().bytes == 0


async def test_a_document_that_nobody_reads_is_cancelled() -> None:
    maker = Maker()
    async with opened(maker, abandon_after_s=0.01) as journal:
        maker.begin(journal)
        await until(lambda: bool(maker.ended))

        assert maker.ended == [("doc", CANCELLED, "nobody has read the document for 0.01 s")]
        assert (await journal.stored("doc")).status == "cancelled"


async def test_a_document_that_is_read_is_not_abandoned_until_its_reader_has_left() -> None:
    maker = Maker()
    async with opened(maker, abandon_after_s=0.01) as journal:
        maker.begin(journal, "other")
        maker.begin(journal, "read")
        reader = await journal.follow("read", None)
        await anext(reader)
        await until(lambda: bool(maker.ended))  # the other's clock began before and ran as long
        assert [document_id for document_id, *_ in maker.ended] == ["other"]
        await reader.aclose()
        await until(lambda: len(maker.ended) == 2)

    assert maker.ended[1][0] == "read"


@pytest.mark.parametrize("look", ["stored", "events_so_far"])
async def test_whoever_looks_starts_the_clock_again(look: str, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    started: list[float] = []
    call_later = asyncio.get_running_loop().call_later
    async with opened(maker, abandon_after_s=100) as journal:
        maker.begin(journal)
        monkeypatch.setattr(
            asyncio.get_running_loop(),
            "call_later",
            lambda delay, *rest, **options: started.append(delay) or call_later(delay, *rest, **options),
        )
        await getattr(journal, look)("doc")

    assert 100 in started


@pytest.mark.parametrize(("background", "abandon_after_s"), [(True, 0.001), (False, float("inf"))])
async def test_a_document_in_the_background_is_not_abandoned_nor_any_if_that_is_set(
    background: bool, abandon_after_s: float
) -> None:
    maker, hasty = Maker(), Maker()
    async with opened(maker, abandon_after_s=abandon_after_s) as journal, opened(hasty, abandon_after_s=0.02) as other:
        maker.begin(journal, background=background)
        hasty.begin(other)
        await until(lambda: bool(hasty.ended))

    assert maker.ended == []


async def test_a_document_that_is_cancelled_has_its_end_when_that_is_done() -> None:
    maker = Maker()
    async with opened(maker) as journal:
        maker.begin(journal)
        await journal.cancel("doc")
        await journal.cancel("doc")

        assert [code for _, code, _ in maker.ended] == [CANCELLED]
        assert (await journal.stored("doc")).status == "cancelled"
        assert len(await read(await journal.follow("doc", None))) == 2


async def test_cancelling_waits_for_the_end_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.interleave.journal.memory.END_LIMIT_S", 0.01)
    maker = Maker()
    monkeypatch.setattr(maker, "end", lambda *_: None)
    async with opened(maker) as journal:
        maker.begin(journal)
        with pytest.raises(JournalUnavailableError):
            await journal.cancel("doc")


async def test_a_document_that_is_deleted_is_gone_but_for_those_who_read_it() -> None:
    maker = Maker()
    async with opened(maker) as journal:
        maker.begin(journal)
        maker.make(count=3)
        reader = await journal.follow("doc", None)
        await anext(reader)
        await forget(journal)

        with pytest.raises(DocumentNotFoundError):
            await journal.stored("doc")
        assert [event.sequence for event in await read(reader)] == [1, 2, 3, 4]
        assert journal.load().documents == journal.load().bytes == 0


async def test_a_document_that_is_being_made_is_not_deleted() -> None:
    maker = Maker()
    async with opened(maker) as journal:
        maker.begin(journal)
        with pytest.raises(JournalError, match="still being made"):
            await journal.delete("doc")
        maker.make()

        assert (await journal.stored("doc")).status == "completed"
