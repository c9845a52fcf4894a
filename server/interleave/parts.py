"""The order of an answer's parts, and the numbers that they get."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from server.interleave.events import (
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    TextDelta,
)
from server.interleave.outbox import UNNUMBERED
from server.interleave.pending_logprobs import PendingLogprobs

ImageEvent = ImageQueued | ImageProgress | ImagePreview | ImageCompleted | ImageFailed
AnyPartEvent = TextDelta | ImageEvent


@dataclass(slots=True, eq=False)
class Part:
    """A place in the order of the document.

    Attributes:
        index: its number; None until the part has begun.
        outstanding: characters of text that are still to come; None while that is open, as it always is for an image.
        waiting: events that came before the part could begin.
    """

    index: int | None = None
    outstanding: int | None = None
    waiting: list[AnyPartEvent] = field(default_factory=list)

    @property
    def begun(self) -> bool:
        """Whether it has any event."""
        return self.index is not None or bool(self.waiting)


class Parts:
    """Puts text and pictures in the order of the document.

    Text held back when a picture begins, because it may be the beginning of a stop string, goes out later as a delta of
    its own, earlier part. If all text of a part is held back, it is open whether there is such a part at all; what
    follows then waits until that is known, so that parts *begin* in the order of their indices, which have no gaps.

    Args:
        emit: takes the events, their parts numbered and their sequence numbers still to come.
        logprobs: go out with the text of their tokens; None if nobody asked for them.

    Attributes:
        written: characters of text so far.
    """

    def __init__(self, emit: Callable[[AnyPartEvent], None], logprobs: PendingLogprobs | None = None) -> None:
        self.written = 0
        self._emit = emit
        self._logprobs = logprobs
        self._begun = 0
        self._unbegun = deque([Part()])
        self._texts = deque(self._unbegun)

    def write(self, text: str) -> None:
        """Add text that is certain, to the earliest parts that wait for it."""
        while text:
            part = self._texts[0]
            piece = text[: part.outstanding]
            text = text[len(piece) :]
            self.written += len(piece)
            logprobs = self._logprobs.take(self.written) if self._logprobs else ()
            if part.index is not None:
                self._emit(TextDelta(UNNUMBERED, part.index, piece, logprobs))
            else:
                self._send(part, TextDelta(UNNUMBERED, UNNUMBERED, piece, logprobs))
            if part.outstanding is not None:
                part.outstanding -= len(piece)
                if not part.outstanding:
                    self._texts.popleft()

    def open_image(self, held: int) -> Part:
        """Begin an image part after all that was written.

        Args:
            held: characters of text before the picture that have not come yet.
        """
        written = self._texts[-1]
        written.outstanding = held - sum(part.outstanding or 0 for part in self._texts)
        if not written.outstanding:
            self._texts.pop()
        image, text = Part(), Part()
        self._unbegun += (image, text)
        self._texts.append(text)
        self._advance()
        return image

    def send(self, image: Part, event: ImageEvent) -> None:
        """Add an event of an image part."""
        self._send(image, event)

    def end_text(self) -> None:
        """No text comes any more, not even what was held back."""
        for part in self._texts:
            part.outstanding = 0
        self._texts.clear()
        self._advance()

    def _send(self, part: Part, event: AnyPartEvent) -> None:
        if part.index is None:
            part.waiting.append(event)
            self._advance()
        else:
            self._emit(replace(event, part=part.index))

    def _advance(self) -> None:
        """Begin the parts whose turn it is, and pass over text parts that came to nothing."""
        while self._unbegun:
            part = self._unbegun[0]
            if part.waiting:
                part.index = self._begun
                self._begun += 1
                for event in part.waiting:
                    self._emit(replace(event, part=part.index))
                part.waiting.clear()
            elif part.outstanding != 0:
                return
            self._unbegun.popleft()
