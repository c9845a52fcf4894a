"""The outbox: numbers, order, and what it does while nobody reads."""

import asyncio

from server.interleave.events import DocumentStarted, ImageProgress, TextDelta, TokenLogprob
from server.interleave.outbox import UNNUMBERED, Outbox


async def test_events_are_numbered_as_they_leave() -> None:
    outbox = Outbox()
    outbox.put(DocumentStarted(UNNUMBERED, "doc", "model", 1))
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    assert await outbox.take() == DocumentStarted(0, "doc", "model", 1)
    assert await outbox.take() == TextDelta(1, 0, "a")


async def test_text_of_one_part_grows_while_it_waits() -> None:
    outbox = Outbox()
    for part, text in ((0, "a"), (0, "b"), (1, "c"), (0, "d")):
        outbox.put(TextDelta(UNNUMBERED, part, text))
    assert [await outbox.take() for _ in range(3)] == [
        TextDelta(0, 0, "ab"),
        TextDelta(1, 1, "c"),
        TextDelta(2, 0, "d"),
    ]


async def test_growing_text_keeps_the_log_probabilities_of_its_tokens() -> None:
    a, b = TokenLogprob("a", b"a", -0.1), TokenLogprob("b", b"b", -0.2)
    outbox = Outbox()
    outbox.put(TextDelta(UNNUMBERED, 0, "a", (a,)))
    outbox.put(TextDelta(UNNUMBERED, 0, "b", (b,)))
    assert await outbox.take() == TextDelta(0, 0, "ab", (a, b))


async def test_text_does_not_grow_over_another_event() -> None:
    outbox = Outbox()
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    outbox.put(ImageProgress(UNNUMBERED, 1, 1, 2))
    outbox.put(TextDelta(UNNUMBERED, 0, "b"))
    assert [type(await outbox.take()) for _ in range(3)] == [TextDelta, ImageProgress, TextDelta]


async def test_the_reader_waits_for_an_event() -> None:
    outbox = Outbox()
    reading = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not reading.done()
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    assert await reading == TextDelta(0, 0, "a")


async def test_a_reader_that_gives_up_takes_no_event_with_it() -> None:
    outbox = Outbox()
    reading = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    outbox.put(TextDelta(UNNUMBERED, 0, "a"))
    assert await outbox.take() == TextDelta(0, 0, "a")
