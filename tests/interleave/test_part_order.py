"""Content in the order of its parts, however the events of the parts mix."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    Image,
    ImageCompleted,
    ImageFailed,
    ImageProgress,
    ImageQueued,
    TextDelta,
    Usage,
)
from server.interleave.renderers.ordered import PartOrder
from tests.untimed import untimed

STARTED = DocumentStarted(0, "doc", "model", 0)
COMPLETED = DocumentCompleted(99, "stop", Usage())


def text(part: int, text: str = "a") -> TextDelta:
    return TextDelta(0, part, text)


def queued(part: int) -> ImageQueued:
    return ImageQueued(0, part, 0, None)


def drawn(part: int) -> ImageCompleted:
    return ImageCompleted(0, part, Image(b"", "png", 1, 1, 0, "file_a"))


def failed(part: int) -> ImageFailed:
    return ImageFailed(0, part, "timeout", "too late")


def shown(order: PartOrder, *events: DocumentEvent) -> list[list[DocumentEvent]]:
    """What passes with each event."""
    return [order.pass_on(event) for event in events]


@pytest.mark.parametrize("end", [drawn(1), failed(1)])
def test_in_line_text_waits_for_the_picture_before_it(end: ImageCompleted | ImageFailed) -> None:
    order = PartOrder(stop_strings=False, pictures_in_line=True)

    assert shown(order, STARTED, text(0), queued(1), text(2, "b"), text(2, "c"), end, text(2, "d")) == [
        [STARTED],
        [text(0)],
        [queued(1)],
        [],
        [],
        [end, text(2, "b"), text(2, "c")],
        [text(2, "d")],
    ]


def test_in_line_pictures_wait_for_each_other() -> None:
    order = PartOrder(stop_strings=False, pictures_in_line=True)

    assert shown(order, queued(0), queued(1), drawn(1), text(2), drawn(0)) == [
        [queued(0)],
        [queued(1)],
        [],
        [],
        [drawn(0), drawn(1), text(2)],
    ]


def test_out_of_line_nothing_waits_for_a_picture() -> None:
    order = PartOrder(stop_strings=False, pictures_in_line=False)

    assert shown(order, text(0), queued(1), text(2), queued(3), drawn(3), drawn(1)) == [
        [text(0)],
        [queued(1)],
        [text(2)],
        [queued(3)],
        [drawn(3)],
        [drawn(1)],
    ]


@pytest.mark.parametrize("pictures_in_line", [False, True])
def test_with_stop_strings_a_picture_waits_until_the_text_before_it_is_known_to_be_over(pictures_in_line: bool) -> None:
    late, later = text(0, "late"), text(2)

    order = PartOrder(stop_strings=True, pictures_in_line=pictures_in_line)
    assert shown(order, text(0), queued(1), drawn(1), late, later) == [
        [text(0)],
        [queued(1)],
        [],
        [late],
        [drawn(1), later],
    ]

    order = PartOrder(stop_strings=True, pictures_in_line=pictures_in_line)
    assert shown(order, text(0), queued(1), drawn(1), COMPLETED)[2:] == [[], [drawn(1), COMPLETED]]


def test_how_pictures_come_along_is_never_held_back() -> None:
    order = PartOrder(stop_strings=True, pictures_in_line=True)
    progress = ImageProgress(0, 3, 1, 4)

    assert shown(order, queued(0), text(1), text(2), queued(3), progress)[-2:] == [[queued(3)], [progress]]


def test_a_document_that_fails_shows_all_that_came_before_it() -> None:
    order = PartOrder(stop_strings=False, pictures_in_line=True)
    last = DocumentFailed(9, "shutdown", "stopped", Usage())

    assert shown(order, queued(0), text(1), last)[-1] == [text(1), last]


@st.composite
def documents(draw: Any) -> tuple[list[DocumentEvent], list[DocumentEvent]]:
    """A document's content in order, and its events as they may come: text in order, pictures whenever."""
    parts = draw(st.lists(st.sampled_from(["text", "image"]), max_size=6))
    content: list[DocumentEvent] = []
    events: list[DocumentEvent] = []
    ends: list[DocumentEvent] = []
    for part, kind in enumerate(parts):
        if kind == "text":
            pieces = [text(part, f"{part}{n}") for n in range(draw(st.integers(1, 3)))]
            content += pieces
            events += pieces
        else:
            content.append(drawn(part))
            events.append(queued(part))
            ends.append(drawn(part))
        while ends and draw(st.booleans()):
            events.append(ends.pop(draw(st.integers(0, len(ends) - 1))))
    return content, [*events, *draw(st.permutations(ends)), COMPLETED]


@untimed
@given(documents(), st.booleans())
def test_in_line_every_document_comes_out_in_order_and_whole(
    document: tuple[list[DocumentEvent], list[DocumentEvent]], stop_strings: bool
) -> None:
    content, events = document
    order = PartOrder(stop_strings, pictures_in_line=True)
    passed = [event for event in events for event in order.pass_on(event)]

    assert [event for event in passed if isinstance(event, TextDelta | ImageCompleted)] == content
    assert passed[-1] == COMPLETED
    assert len(passed) == len(events)
