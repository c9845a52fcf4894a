"""The outbox: numbers, order, and what it does while nobody reads."""

import asyncio

import pytest

from server.interleave.event_size import size_of
from server.interleave.events import (
    DocumentFailed,
    DocumentStarted,
    Image,
    ImagePreview,
    ImageProgress,
    TextDelta,
    TokenLogprob,
    Usage,
)
from server.interleave.limits import DocumentError
from server.interleave.outbox import UNNUMBERED, Outbox


async def test_events_are_numbered_as_they_leave() -> None:
    outbox = Outbox(max_bytes=2**20)
    outbox.put(DocumentStarted(UNNUMBERED, "doc", "model", 1))
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    assert await outbox.take() == DocumentStarted(0, "doc", "model", 1)
    assert await outbox.take() == TextDelta(1, 0, "a")


async def test_text_of_one_part_grows_while_it_waits() -> None:
    outbox = Outbox(max_bytes=2**20)
    for part, text in ((0, "a"), (0, "b"), (1, "c"), (0, "d")):
        outbox.put(TextDelta(UNNUMBERED, part, text))
    assert [await outbox.take() for _ in range(3)] == [
        TextDelta(0, 0, "ab"),
        TextDelta(1, 1, "c"),
        TextDelta(2, 0, "d"),
    ]


async def test_growing_text_keeps_the_log_probabilities_of_its_tokens() -> None:
    a, b = TokenLogprob("a", b"a", -0.1), TokenLogprob("b", b"b", -0.2)
    outbox = Outbox(max_bytes=2**20)
    outbox.put(TextDelta(UNNUMBERED, 0, "a", (a,)))
    outbox.put(TextDelta(UNNUMBERED, 0, "b", (b,)))
    assert await outbox.take() == TextDelta(0, 0, "ab", (a, b))


async def test_text_does_not_grow_over_another_event() -> None:
    outbox = Outbox(max_bytes=2**20)
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    outbox.put(ImageProgress(UNNUMBERED, 1, 1, 2))
    outbox.put(TextDelta(UNNUMBERED, 0, "b"))
    assert [type(await outbox.take()) for _ in range(3)] == [TextDelta, ImageProgress, TextDelta]


async def test_the_reader_waits_for_an_event() -> None:
    outbox = Outbox(max_bytes=2**20)
    reading = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not reading.done()
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    assert await reading == TextDelta(0, 0, "a")


async def test_a_reader_that_gives_up_takes_no_event_with_it() -> None:
    outbox = Outbox(max_bytes=2**20)
    reading = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    assert await outbox.take() == TextDelta(0, 0, "a")


def preview(size: int) -> ImagePreview:
    return ImagePreview(UNNUMBERED, 1, 0, Image(bytes(size), "png", 1, 1, 0, "id"))


async def test_previews_go_when_too_much_waits() -> None:
    outbox = Outbox(max_bytes=2000)
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    outbox.put(preview(1000))
    outbox.put(TextDelta(UNNUMBERED, 0, "b" * 1500))
    assert await outbox.take() == TextDelta(0, 0, "a" + "b" * 1500)


async def test_too_much_that_waits_is_an_error_for_who_adds_more() -> None:
    outbox = Outbox(max_bytes=2000)
    outbox.put(TextDelta(UNNUMBERED, 0, "a" * 1500))
    with pytest.raises(DocumentError) as refused:
        outbox.put(TextDelta(UNNUMBERED, 0, "b" * 1500))
    assert refused.value.code == "reader_too_slow"
    assert await outbox.take() == TextDelta(0, 0, "a" * 1500)


async def test_there_is_always_room_for_the_last_event() -> None:
    last = DocumentFailed(UNNUMBERED, "reader_too_slow", "too slow", Usage())
    first = TextDelta(UNNUMBERED, 0, "a")
    outbox = Outbox(max_bytes=size_of(first))
    outbox.put(first)
    outbox.put(last)
    assert [type(await outbox.take()) for _ in range(2)] == [TextDelta, DocumentFailed]


async def test_what_was_taken_makes_room() -> None:
    outbox = Outbox(max_bytes=2000)
    for number in range(10):
        outbox.put(TextDelta(UNNUMBERED, 0, "a" * 1500))
        assert (await outbox.take()).sequence == number


async def test_an_event_that_is_larger_than_all_that_may_wait_passes_alone() -> None:
    outbox = Outbox(max_bytes=100)
    outbox.put(preview(1000))
    assert isinstance(await outbox.take(), ImagePreview)
