"""Documents and their events as ``/v1/interleaved`` shows them."""

import asyncio
from base64 import b64encode
from typing import assert_never

from sse_starlette import ServerSentEvent

from server.interleave.document import AnswerImage, AnswerText, Document
from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    Image,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    TextDelta,
    Usage,
)
from server.schema import events as sse
from server.schema.interleaved import (
    DocumentUsage,
    FailedImagePart,
    ImageContent,
    ImagePart,
    InterleavedResponse,
    PartError,
    TextPart,
)


async def render_document(document: Document) -> bytes:
    """The JSON response of a document that ended well."""
    return await asyncio.to_thread(lambda: response_of(document).model_dump_json().encode())


async def render_event(event: DocumentEvent) -> bytes:
    """An event as a server-sent event. Pictures are encoded on a thread."""
    if isinstance(event, ImageCompleted | ImagePreview):
        return await asyncio.to_thread(server_sent, event)
    return server_sent(event)


def server_sent(event: DocumentEvent) -> bytes:
    """The lines of a server-sent event."""
    payload = payload_of(event)
    frame = ServerSentEvent(payload.model_dump_json(), event=payload.type, id=str(payload.sequence), sep="\n")
    return frame.encode()


def payload_of(event: DocumentEvent) -> sse.InterleavedEvent:
    """What a server-sent event says."""
    n = event.sequence
    match event:
        case DocumentStarted():
            return sse.DocumentStartedEvent(sequence=n, id=event.id, model=event.model, created=event.created)
        case TextDelta():
            return sse.TextDeltaEvent(sequence=n, part=event.part, text=event.text)
        case ImageQueued():
            return sse.ImageQueuedEvent(sequence=n, part=event.part, position=event.position, eta_s=event.eta_s)
        case ImageProgress():
            return sse.ImageProgressEvent(sequence=n, part=event.part, step=event.step, steps=event.steps)
        case ImagePreview():
            image = image_content(event.image)
            return sse.ImagePreviewEvent(sequence=n, part=event.part, index=event.index, image=image)
        case ImageCompleted():
            return sse.ImageCompletedEvent(sequence=n, part=event.part, image=image_content(event.image))
        case ImageFailed():
            error = PartError(code=event.code, message=event.message)
            return sse.ImageFailedEvent(sequence=n, part=event.part, error=error)
        case DocumentCompleted():
            usage = usage_of(event.usage)
            return sse.DocumentCompletedEvent(sequence=n, finish_reason=event.finish_reason, usage=usage)
        case DocumentFailed():
            error = PartError(code=event.code, message=event.message)
            return sse.DocumentFailedEvent(sequence=n, error=error, usage=usage_of(event.usage))
        case _:
            assert_never(event)


def response_of(document: Document) -> InterleavedResponse:
    """The response of a document that ended well.

    Raises:
        ValueError: it did not.
    """
    if document.finish_reason is None:
        raise ValueError(f"document {document.id} has not ended well")
    return InterleavedResponse(
        id=document.id,
        created=document.created,
        model=document.model,
        parts=[part_of(part) for part in document.parts],
        finish_reason=document.finish_reason,
        usage=usage_of(document.usage),
    )


def part_of(part: AnswerText | AnswerImage) -> TextPart | ImagePart | FailedImagePart:
    """One part of the response."""
    if isinstance(part, AnswerText):
        return TextPart(text=part.text)
    if part.image is not None:
        return ImagePart(image=image_content(part.image))
    return FailedImagePart(error=PartError(code=part.code or "missing", message=part.message or "there is no picture"))


def image_content(image: Image) -> ImageContent:
    """A picture in base64."""
    return ImageContent(
        b64_json=b64encode(image.data).decode(),
        format=image.format,
        width=image.width,
        height=image.height,
        seed=image.seed,
    )


def usage_of(usage: Usage) -> DocumentUsage:
    """What the document cost, with its total."""
    return DocumentUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        image_tokens=usage.image_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens + usage.image_tokens,
        images=usage.images,
        denoising_steps=usage.denoising_steps,
        length_limit=usage.length_limit,
    )
