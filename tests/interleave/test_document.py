"""The document put together from events."""

import pytest

from server.interleave.document import AnswerImage, AnswerText, Document
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

PICTURE = Image(b"png", "png", 2, 2, 5, "file_5")
STARTED = DocumentStarted(0, "doc", "model", 12)


def test_parts_stand_in_the_order_of_their_indices() -> None:
    events: list[DocumentEvent] = [
        STARTED,
        TextDelta(1, 0, "one "),
        ImageQueued(2, 1, 0, None),
        TextDelta(3, 2, "three"),
        ImageCompleted(4, 1, PICTURE),
        TextDelta(5, 0, "more"),
        DocumentCompleted(6, "stop", Usage(images=1)),
    ]
    document = Document.of(events)
    assert document.parts == (AnswerText("one more"), AnswerImage(PICTURE), AnswerText("three"))
    assert (document.id, document.model, document.created) == ("doc", "model", 12)
    assert (document.finish_reason, document.usage.images, document.error) == ("stop", 1, None)


def test_a_picture_on_its_way_is_a_part_without_an_image() -> None:
    document = Document.of([STARTED, ImageQueued(1, 0, 0, None), ImageProgress(2, 0, 1, 3)])
    assert document.parts == (AnswerImage(),)
    assert document.finish_reason is None


def test_a_failed_picture_says_why() -> None:
    document = Document.of([STARTED, ImageQueued(1, 0, 0, None), ImageFailed(2, 0, "timeout", "too long")])
    assert document.parts == (AnswerImage(None, "timeout", "too long"),)


def test_a_failed_document_keeps_its_parts_and_its_error() -> None:
    failed = DocumentFailed(2, "engine_unavailable", "gone", Usage(completion_tokens=3))
    document = Document.of([STARTED, TextDelta(1, 0, "one"), failed])
    assert (document.parts, document.error, document.usage.completion_tokens) == ((AnswerText("one"),), failed, 3)


def test_text_for_an_image_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="part 0 is an image"):
        Document.of([STARTED, ImageQueued(1, 0, 0, None), TextDelta(2, 0, "text")])
