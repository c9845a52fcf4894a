"""The content of a document in the order of its parts, for surfaces that have no numbers to tell it by."""

from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    ImageCompleted,
    ImageFailed,
    TextDelta,
)

Content = TextDelta | ImageCompleted | ImageFailed


class PartOrder:
    """Holds content back while an earlier part may still get some. All other events pass at once.

    Earlier parts get content late for two reasons. Text goes on while a picture is drawn that the model is not shown.
    And text that may be the beginning of a stop string is held back at a picture, and comes after the picture if it
    was none; so with stop strings a text part is known to be over only when there is text of a later one.

    Args:
        stop_strings: whether the request has any.
        pictures_in_line: whether content waits for earlier pictures too, not only for earlier text.
    """

    def __init__(self, stop_strings: bool, pictures_in_line: bool) -> None:
        self._stop_strings = stop_strings
        self._pictures_in_line = pictures_in_line
        self._open_texts: set[int] = set()
        self._open_pictures: set[int] = set()
        self._held: dict[int, list[Content]] = {}

    def pass_on(self, event: DocumentEvent) -> list[DocumentEvent]:
        """What may be shown now that an event has come: part by part, and what is no content where it came."""
        if (
            isinstance(event, TextDelta)
            and self._open_texts == {event.part}
            and not (self._held or self._open_pictures)
        ):
            return [event]  # as nearly every token does, more text of the part that is the only one open
        match event:
            case DocumentStarted():
                return [event]
            case DocumentCompleted() | DocumentFailed():
                self._open_texts.clear()
                self._open_pictures.clear()
                return [*self._released(), event]
            case TextDelta(part=part):
                self._open_texts = {text for text in self._open_texts if text > part} | {part}
            case ImageCompleted(part=part) | ImageFailed(part=part):
                self._open_pictures.discard(part)
            case _:
                if self._pictures_in_line:
                    self._open_pictures.add(event.part)
        if not self._stop_strings:
            self._open_texts = {text for text in self._open_texts if text >= event.part}
        if not isinstance(event, Content):
            return [*self._released(), event]
        self._held.setdefault(event.part, []).append(event)
        return self._released()

    def _released(self) -> list[DocumentEvent]:
        """The content that nothing can come before any more."""
        first_open = min(self._open_texts | self._open_pictures, default=None)
        parts = sorted(part for part in self._held if first_open is None or part <= first_open)
        return [event for part in parts for event in self._held.pop(part)]
