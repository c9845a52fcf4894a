"""Events of documents as the typed events of ``/v1/responses``.

What is sent, and the numbers that it has, is a function of the document's events and the view alone. So a reader who
was cut off can go on anywhere: all is rendered once more, and what he has seen is left out.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count
from types import MappingProxyType

from server.interleave.document import Document
from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    TextDelta,
)
from server.interleave.journal.base import was_lost
from server.interleave.parts import ImageEvent
from server.interleave.renderers.delivery import base64_of
from server.interleave.renderers.frames import event_frame
from server.interleave.renderers.responses import (
    IMAGE_CALL_PREFIX,
    MESSAGE_PREFIX,
    ResponseView,
    item_id,
    item_of,
    response_of,
    response_status,
    shown_logprobs,
    size_of,
)
from server.schema import responses_events as sse
from server.schema.responses_events import ContentPartType, ImageCallType, ItemEventType, LifecycleType
from server.schema.responses_object import ImageCallItem, MessageItem, OutputItem, OutputTextPart, ResponseStatus

LAST_EVENTS: Mapping[ResponseStatus, LifecycleType] = MappingProxyType(
    {
        "completed": "response.completed",
        "incomplete": "response.incomplete",
        "failed": "response.failed",
        "cancelled": "response.failed",  # OpenAI's clients know no event of its own for that: its status tells
    }
)
LARGE = (ImagePreview, ImageCompleted, DocumentCompleted, DocumentFailed)
"""Events that are told with pictures, their own or all of the document."""


async def render_stream(
    events: AsyncIterator[DocumentEvent], view: ResponseView, after: int | None = None
) -> AsyncIterator[bytes]:
    """The events of a document as server-sent events. Pictures are encoded on a thread.

    Args:
        events: of the document, from the first on.
        view: what is shown of them.
        after: number of the last event that the reader has seen; None shows all.
    """
    stream = ResponseStream(view)
    seen = -1 if after is None else after
    async for event in events:
        large = isinstance(event, LARGE)
        numbered = await asyncio.to_thread(stream.frames, event) if large else stream.frames(event)
        for number, frame in numbered:
            if number > seen:
                yield frame
        if was_lost(event) and numbered[-1][0] <= seen:  # he had more from the server itself than it left behind
            yield await asyncio.to_thread(stream.end_at, seen + 1)


class ResponseStream:
    """Renders the events of one document, in the order in which they happened.

    Text of an earlier part may come late: with stop strings, what may be the beginning of one is held back at a
    picture. A message is therefore over when there is an event of a later part or, with stop strings, text of one.
    """

    def __init__(self, view: ResponseView) -> None:
        self._view = view
        self._document = Document()
        self._numbers = count()
        self._begun = 0
        self._open_messages: set[int] = set()
        self._open_pictures: set[int] = set()
        self._generating: set[int] = set()

    def frames(self, event: DocumentEvent) -> list[tuple[int, bytes]]:
        """An event as server-sent events, each with its number."""
        self._document.apply(event)
        return [(payload.sequence_number, frame(payload)) for payload in self._payloads(event)]

    def end_at(self, number: int) -> bytes:
        """The last event of a document that has ended, under another number."""
        self._numbers = count(number)
        return frame(self._end())

    def _payloads(self, event: DocumentEvent) -> Iterator[sse.ResponseStreamEvent]:
        match event:
            case DocumentStarted():
                yield self._lifecycle("response.created")
                yield self._lifecycle("response.in_progress")
            case DocumentCompleted() | DocumentFailed():
                for index in sorted(self._open_messages | self._open_pictures):
                    yield from self._end_item(index)
                yield self._end()
            case TextDelta(part=part):
                yield from self._end_messages(part)
                yield from self._text(event)
            case _:
                if not self._view.stop_strings:
                    yield from self._end_messages(event.part)
                yield from self._picture(event)

    def _end(self) -> sse.LifecycleEvent:
        return self._lifecycle(LAST_EVENTS[response_status(self._document)])

    def _lifecycle(self, type: LifecycleType) -> sse.LifecycleEvent:
        response = response_of(self._document, self._view)
        return sse.LifecycleEvent(type=type, sequence_number=next(self._numbers), response=response)

    def _text(self, event: TextDelta) -> Iterator[sse.ResponseStreamEvent]:
        """More text: what begins the message, and the delta."""
        id = self._item_id(MESSAGE_PREFIX, event.part)
        if self._begins(event.part):
            self._open_messages.add(event.part)
            item = MessageItem(id=id, status="in_progress", content=[])
            yield self._item("response.output_item.added", event.part, item)
            yield self._content_part("response.content_part.added", event.part, OutputTextPart(text=""))
        yield sse.OutputTextDeltaEvent(
            sequence_number=next(self._numbers),
            item_id=id,
            output_index=event.part,
            delta=event.text,
            logprobs=shown_logprobs(event.logprobs, self._view),
        )

    def _picture(self, event: ImageEvent) -> Iterator[sse.ResponseStreamEvent]:
        """How far a picture is: how often it changes its place in the queue, and every step, is not told."""
        part = event.part
        if self._begins(part):
            self._open_pictures.add(part)
            item = ImageCallItem(id=self._item_id(IMAGE_CALL_PREFIX, part), status="in_progress")
            yield self._item("response.output_item.added", part, item)
            yield self._image_call("response.image_generation_call.in_progress", part)
        if isinstance(event, ImageProgress | ImagePreview | ImageCompleted) and part not in self._generating:
            self._generating.add(part)
            yield self._image_call("response.image_generation_call.generating", part)
        match event:
            case ImagePreview(index=index, image=image):
                yield sse.PartialImageCallEvent(
                    sequence_number=next(self._numbers),
                    item_id=self._item_id(IMAGE_CALL_PREFIX, part),
                    output_index=part,
                    partial_image_index=index,
                    partial_image_b64=base64_of(image),
                    output_format=image.format,
                    size=size_of(image),
                )
            case ImageCompleted():
                yield self._image_call("response.image_generation_call.completed", part)
                yield from self._end_item(part)
            case ImageFailed():
                yield from self._end_item(part)

    def _begins(self, part: int) -> bool:
        """Whether this is the first event of a part: parts begin in their order."""
        begins = part == self._begun
        self._begun += begins
        return begins

    def _end_messages(self, before: int) -> Iterator[sse.ResponseStreamEvent]:
        """Nothing comes any more for the messages before a part."""
        for index in sorted(index for index in self._open_messages if index < before):
            yield from self._end_item(index)

    def _end_item(self, index: int) -> Iterator[sse.ResponseStreamEvent]:
        item = item_of(self._document, self._document.parts, index, self._view)
        self._open_messages.discard(index)
        self._open_pictures.discard(index)
        if isinstance(item, MessageItem):
            [part] = item.content
            yield sse.OutputTextDoneEvent(
                sequence_number=next(self._numbers),
                item_id=item.id,
                output_index=index,
                text=part.text,
                logprobs=part.logprobs,
            )
            yield self._content_part("response.content_part.done", index, part)
        yield self._item("response.output_item.done", index, item)

    def _item(self, type: ItemEventType, index: int, item: OutputItem) -> sse.OutputItemEvent:
        return sse.OutputItemEvent(type=type, sequence_number=next(self._numbers), output_index=index, item=item)

    def _content_part(self, type: ContentPartType, index: int, part: OutputTextPart) -> sse.ContentPartEvent:
        return sse.ContentPartEvent(
            type=type,
            sequence_number=next(self._numbers),
            item_id=self._item_id(MESSAGE_PREFIX, index),
            output_index=index,
            part=part,
        )

    def _image_call(self, type: ImageCallType, index: int) -> sse.ImageCallEvent:
        return sse.ImageCallEvent(
            type=type,
            sequence_number=next(self._numbers),
            item_id=self._item_id(IMAGE_CALL_PREFIX, index),
            output_index=index,
        )

    def _item_id(self, prefix: str, index: int) -> str:
        return item_id(self._document.id, prefix, index)


def frame(payload: sse.ResponseStreamEvent) -> bytes:
    """The lines of a server-sent event."""
    return event_frame(payload.model_dump_json(by_alias=True), event=payload.type)
