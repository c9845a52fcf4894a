"""The order of parts: they begin by their numbers, without gaps, whatever is held back."""

from server.interleave.events import Image, ImageCompleted, ImageQueued, TextDelta
from server.interleave.outbox import UNNUMBERED
from server.interleave.parts import AnyPartEvent, Parts

QUEUED = ImageQueued(UNNUMBERED, UNNUMBERED, 0, None)


def text(events: list[AnyPartEvent]) -> list[tuple[int, str]]:
    """Part and text of each event; ``"IMAGE"`` for those of pictures."""
    return [(event.part, event.text if isinstance(event, TextDelta) else "IMAGE") for event in events]


def test_parts_are_numbered_in_order() -> None:
    events: list[AnyPartEvent] = []
    parts = Parts(events.append)
    parts.write("one")
    parts.send(parts.open_image(held=0), QUEUED)
    parts.write("two")
    assert text(events) == [(0, "one"), (1, "IMAGE"), (2, "two")]


def test_no_text_between_two_images_is_no_part() -> None:
    events: list[AnyPartEvent] = []
    parts = Parts(events.append)
    parts.send(parts.open_image(held=0), QUEUED)
    parts.send(parts.open_image(held=0), QUEUED)
    assert text(events) == [(0, "IMAGE"), (1, "IMAGE")]


def test_text_held_back_goes_to_the_parts_it_was_written_in() -> None:
    events: list[AnyPartEvent] = []
    parts = Parts(events.append)
    parts.write("o")
    parts.send(parts.open_image(held=2), QUEUED)
    parts.send(parts.open_image(held=3), QUEUED)
    assert text(events) == [(0, "o"), (1, "IMAGE")]
    parts.write("neto")
    assert text(events)[2:] == [(0, "ne"), (2, "t"), (3, "IMAGE"), (4, "o")]


def test_a_part_that_never_came_leaves_no_gap() -> None:
    events: list[AnyPartEvent] = []
    parts = Parts(events.append)
    parts.send(parts.open_image(held=1), QUEUED)
    assert events == []
    parts.end_text()
    assert text(events) == [(0, "IMAGE")]


def test_what_follows_an_image_waits_until_it_has_begun() -> None:
    events: list[AnyPartEvent] = []
    parts = Parts(events.append)
    first, second = parts.open_image(held=0), parts.open_image(held=0)
    parts.write("text")
    parts.send(second, QUEUED)
    assert events == []
    parts.send(first, QUEUED)
    assert text(events) == [(0, "IMAGE"), (1, "IMAGE"), (2, "text")]


def test_events_of_an_image_keep_their_order() -> None:
    events: list[AnyPartEvent] = []
    parts = Parts(events.append)
    first, second = parts.open_image(held=0), parts.open_image(held=0)
    done = ImageCompleted(UNNUMBERED, UNNUMBERED, Image(b"", "png", 1, 1, 0, "file_0"))
    parts.send(second, QUEUED)
    parts.send(second, done)
    parts.send(first, QUEUED)
    assert [type(event).__name__ for event in events] == ["ImageQueued", "ImageQueued", "ImageCompleted"]
