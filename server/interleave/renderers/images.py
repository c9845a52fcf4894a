"""Documents of pictures alone, and their events, as ``/v1/images/generations`` shows them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from server.interleave.document import AnswerImage, Document
from server.interleave.events import (
    CONTENT_FILTERED,
    DocumentEvent,
    DocumentFailed,
    Image,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    Usage,
)
from server.interleave.renderers.delivery import LinkTo, base64_of
from server.interleave.renderers.frames import event_frame
from server.pool.base import ImageFormat
from server.schema.errors import CONTENT_POLICY_VIOLATION, ErrorBody
from server.schema.images import (
    CompletedImageEvent,
    GeneratedImage,
    ImageErrorEvent,
    ImagesEvent,
    ImagesResponse,
    ImagesUsage,
    InputTokensDetails,
    OutputTokensDetails,
    PartialImageEvent,
)


@dataclass(frozen=True, slots=True)
class ImagesView:
    """What a caller wants to see of a document.

    Attributes:
        link_to: makes links to pictures.
        size: of the pictures, width x height in pixels.
        output_format: their encoding.
        usage: what the document has cost so far.
    """

    link_to: LinkTo
    size: str
    output_format: ImageFormat
    usage: Callable[[], Usage]


async def render_images(document: Document, view: ImagesView) -> bytes:
    """The JSON response of a document whose pictures were all drawn."""
    return await asyncio.to_thread(lambda: response_of(document, view).model_dump_json().encode())


async def render_stream(events: AsyncIterator[DocumentEvent], view: ImagesView) -> AsyncIterator[bytes]:
    """The events of a document as server-sent events, up to the first failure. Pictures are encoded on a thread."""
    async for event in events:
        match event:
            case ImagePreview() | ImageCompleted():
                yield await asyncio.to_thread(lambda shown: frame(payload_of(shown, view)), event)
            case ImageFailed() | DocumentFailed():
                yield frame(ImageErrorEvent(error=error_of(event)))
                return


def error_of(failure: ImageFailed | DocumentFailed) -> ErrorBody:
    """Why there are no pictures. What a check refused is told as OpenAI does."""
    if failure.code == CONTENT_FILTERED:
        return ErrorBody(message=failure.message, type="invalid_request_error", code=CONTENT_POLICY_VIOLATION)
    return ErrorBody(message=failure.message, type="server_error", code=failure.code)


def frame(payload: ImagesEvent) -> bytes:
    """The lines of a server-sent event."""
    return event_frame(payload.model_dump_json(), event=payload.type)


def payload_of(event: ImagePreview | ImageCompleted, view: ImagesView) -> ImagesEvent:
    """What a server-sent event says of a picture."""
    created_at = int(time.time())
    match event:
        case ImagePreview(part=part, index=index, image=image):
            return PartialImageEvent(
                index=part,
                partial_image_index=index,
                b64_json=base64_of(image),
                created_at=created_at,
                output_format=view.output_format,
                size=view.size,
            )
        case ImageCompleted(part=part, image=image):
            return CompletedImageEvent(
                index=part,
                **dict(generated(image, view)),
                created_at=created_at,
                output_format=view.output_format,
                size=view.size,
                usage=images_usage(view.usage()),
            )


def response_of(document: Document, view: ImagesView) -> ImagesResponse:
    """The response of a document of pictures."""
    images = [part.image for part in document.parts if isinstance(part, AnswerImage) and part.image is not None]
    return ImagesResponse(
        created=document.created,
        data=[generated(image, view) for image in images],
        output_format=view.output_format,
        size=view.size,
        usage=images_usage(document.usage),
    )


def generated(image: Image, view: ImagesView) -> GeneratedImage:
    """A picture, or a link to it, as it was asked for."""
    if image.delivery == "url":
        return GeneratedImage(url=view.link_to(image), seed=image.seed)
    return GeneratedImage(b64_json=base64_of(image), seed=image.seed)


def images_usage(usage: Usage) -> ImagesUsage:
    """What the document cost, as OpenAI counts it."""
    return ImagesUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(text_tokens=usage.prompt_tokens),
        output_tokens=usage.image_tokens,
        output_tokens_details=OutputTokensDetails(image_tokens=usage.image_tokens),
        total_tokens=usage.prompt_tokens + usage.image_tokens,
    )
