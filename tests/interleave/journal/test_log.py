"""The log of one document: many readers, each at its own place, and one writer who waits for none."""

import asyncio

import pytest

from server.interleave.events import DocumentStarted, TextDelta
from server.interleave.journal.base import JournalTruncatedError
from server.interleave.journal.log import DocumentLog
from tests.interleave.journal.documents import STORY, large, put, read, record


def new_log(max_bytes: int = 10**6) -> DocumentLog:
    return DocumentLog(record(), max_bytes, changed=lambda log, added: None, watched=lambda log: None)


async def test_readers_follow_at_their_own_places() -> None:
    log = new_log()
    early = asyncio.create_task(read(log.follow(None)))
    put(log, STORY[:3])
    middle = asyncio.create_task(read(log.follow(1)))
    slow = log.follow(None)
    first = await anext(slow)
    put(log, STORY[3:])

    assert await early == list(STORY)
    assert await middle == list(STORY[2:])
    assert [first, *await read(slow)] == list(STORY)
    assert await read(log.follow(2)) == list(STORY[3:])


@pytest.mark.parametrize("after", [5, 6])
async def test_who_has_seen_the_end_gets_nothing_more(after: int) -> None:
    log = new_log()
    put(log, STORY)

    assert await read(log.follow(after)) == []


async def test_who_is_ahead_of_the_log_waits_for_what_it_has_not_seen() -> None:
    log = new_log()
    put(log, STORY[:1])
    reading = asyncio.create_task(read(log.follow(3)))
    put(log, STORY[1:])

    assert await reading == list(STORY[4:])


async def test_the_writer_waits_for_nobody() -> None:
    log = new_log()
    reader = log.follow(None)
    for event in STORY:
        log.put(event)
        await log.ready()

    assert await read(reader) == list(STORY)


async def test_readers_are_counted_until_they_leave() -> None:
    seen: list[int] = []
    log = DocumentLog(record(), 10**6, lambda log, added: None, watched=lambda log: seen.append(log.readers))
    put(log, STORY)
    await read(log.follow(None))
    await read(log.follow(None), 1)

    assert seen == [1, 0, 1, 0]
    assert log.readers == 0


async def test_a_reader_who_is_cancelled_is_gone() -> None:
    log = new_log()
    reading = asyncio.create_task(read(log.follow(None)))
    await asyncio.sleep(0)
    assert log.readers == 1
    reading.cancel()
    await asyncio.wait([reading])

    assert log.readers == 0


async def test_a_log_that_is_closed_without_a_last_event_lets_its_readers_go() -> None:
    log = new_log()
    put(log, STORY[:2])
    reading = asyncio.create_task(read(log.follow(None)))
    await asyncio.sleep(0)
    log.close()

    assert await reading == list(STORY[:2])


async def test_a_document_that_outgrows_its_bound_loses_its_oldest_events() -> None:
    log = new_log(max_bytes=25_000)
    put(log, [DocumentStarted(0, "doc", "model", 1), *(large(n, 10_000) for n in range(1, 6))])

    assert log.first == 4
    assert log.bytes <= 26_000
    assert [event.sequence for event in log.read(4)] == [4, 5]
    stored = log.record.stored(log.status, log.first)
    stored.require_kept(3)
    with pytest.raises(JournalTruncatedError):
        stored.require_kept(2)
    with pytest.raises(JournalTruncatedError):
        await read(log.follow(None))


async def test_what_a_reader_who_is_here_has_not_taken_is_kept_until_he_leaves() -> None:
    log = new_log(max_bytes=25_000)
    events = [STORY[0], *(large(n, 10_000) for n in range(1, 7))]
    log.put(events[0])
    reader = log.follow(None)
    taken = [await anext(reader)]
    put(log, events[1:5])
    assert log.first == 1
    taken += [await anext(reader), await anext(reader)]
    put(log, events[5:6])
    assert log.first == 3

    assert [*taken, await anext(reader)] == events[:4]
    await reader.aclose()
    put(log, events[6:])
    assert log.first == 5
    assert log.bytes <= 26_000


async def test_the_latest_event_is_kept_however_large_it_is() -> None:
    log = new_log(max_bytes=100)
    put(log, [STORY[0], large(1, 10_000)])

    assert [event.sequence for event in log.read(1)] == [1]
    assert log.status == "in_progress"


async def test_what_a_document_takes_is_counted() -> None:
    changes: list[int] = []
    log = DocumentLog(record(), 10**6, lambda log, added: changes.append(added), lambda log: None)
    empty = log.bytes
    put(log, [STORY[0], large(1, 10_000), TextDelta(2, 2, "a" * 5000)])

    assert log.bytes == empty + sum(changes)
    assert 15_000 < sum(changes) < 16_500
