"""Documents and their events as ``/v1/interleaved`` shows them."""

import asyncio
from typing import assert_never

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
    Status,
    TextDelta,
    Usage,
)
from server.interleave.renderers.delivery import LinkTo, base64_of
from server.interleave.renderers.frames import event_frame
from server.schema import events as sse
from server.schema.interleaved import (
    DocumentUsage,
    FailedImagePart,
    ImageContent,
    ImagePart,
    InterleavedResponse,
    PartError,
    PendingImagePart,
    TextPart,
)


async def render_document(document: Document, link_to: LinkTo) -> bytes:
    """The JSON response of a document, as far as it is."""
    return await asyncio.to_thread(lambda: response_of(document, link_to).model_dump_json().encode())


async def render_event(event: DocumentEvent, link_to: LinkTo) -> bytes:
    """An event as a server-sent event. Pictures are encoded on a thread."""
    if isinstance(event, ImageCompleted | ImagePreview):
        return await asyncio.to_thread(server_sent, event, link_to)
    return server_sent(event, link_to)


def server_sent(event: DocumentEvent, link_to: LinkTo) -> bytes:
    """The lines of a server-sent event."""
    payload = payload_of(event, link_to)
    return event_frame(payload.model_dump_json(), event=payload.type, id=payload.sequence)


def payload_of(event: DocumentEvent, link_to: LinkTo) -> sse.InterleavedEvent:
    """What a server-sent event says."""
    n = event.sequence
    match event:
        case DocumentStarted():
            return sse.DocumentStartedEvent(sequence=n, id=event.id, model=event.model, created=event.created)
        case TextDelta():
            return sse.TextDeltaEvent(sequence=n, part=event.part, text=event.text)
        case ImageQueued() | ImageProgress() | ImagePreview():
            return progress_of(event)
        case ImageCompleted():
            return sse.ImageCompletedEvent(sequence=n, part=event.part, image=image_content(event.image, link_to))
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


def progress_of(event: ImageQueued | ImageProgress | ImagePreview) -> sse.ImageProgressing:
    """What a server-sent event says of a picture that is drawn."""
    n = event.sequence
    match event:
        case ImageQueued():
            return sse.ImageQueuedEvent(sequence=n, part=event.part, position=event.position, eta_s=event.eta_s)
        case ImageProgress():
            return sse.ImageProgressEvent(sequence=n, part=event.part, step=event.step, steps=event.steps)
        case ImagePreview():
            image = inline_content(event.image)
            return sse.ImagePreviewEvent(sequence=n, part=event.part, index=event.index, image=image)


def response_of(document: Document, link_to: LinkTo) -> InterleavedResponse:
    """The response of a document, as far as it is."""
    status, error = document.status, document.error
    return InterleavedResponse(
        id=document.id,
        created=document.created,
        model=document.model,
        status=status,
        parts=[part_of(part, status, link_to) for part in document.parts],
        finish_reason=document.finish_reason,
        error=PartError(code=error.code, message=error.message) if error else None,
        usage=None if status == "in_progress" else usage_of(document.usage),
    )


def part_of(
    part: AnswerText | AnswerImage, status: Status, link_to: LinkTo
) -> TextPart | ImagePart | FailedImagePart | PendingImagePart:
    """One part of the response of a document with a status."""
    if isinstance(part, AnswerText):
        return TextPart(text=part.text)
    if part.image is not None:
        return ImagePart(image=image_content(part.image, link_to))
    if part.code is None and status == "in_progress":
        return PendingImagePart()
    return FailedImagePart(error=PartError(code=part.code or "missing", message=part.message or "there is no picture"))


def image_content(image: Image, link_to: LinkTo) -> ImageContent:
    """A picture, or a link to it, as it was asked for."""
    if image.delivery == "inline":
        return inline_content(image)
    return ImageContent(
        url=link_to(image), format=image.format, width=image.width, height=image.height, seed=image.seed
    )


def inline_content(image: Image) -> ImageContent:
    """A picture in base64."""
    return ImageContent(
        b64_json=base64_of(image),
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
