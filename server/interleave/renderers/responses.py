"""Documents as the response objects of ``/v1/responses``: every part is an output item, in its place."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.interleave.document import AnswerImage, AnswerPart, AnswerText, Document
from server.interleave.events import Image, TokenLogprob, Usage
from server.interleave.renderers.chat import logprobs_of
from server.interleave.renderers.delivery import LinkTo, base64_of
from server.schema.chat_completion import TokenLogprob as ShownLogprob
from server.schema.responses_object import (
    ImageCallError,
    ImageCallItem,
    IncompleteDetails,
    MessageItem,
    MessageStatus,
    OutputItem,
    OutputTextPart,
    Response,
    ResponseError,
    ResponseInputDetails,
    ResponseSettings,
    ResponseStatus,
    ResponseUsage,
)

RESPONSE_PREFIX = "resp_"
MESSAGE_PREFIX = "msg_"
IMAGE_CALL_PREFIX = "ig_"
ITEM_ID = re.compile(rf"(?:{MESSAGE_PREFIX}|{IMAGE_CALL_PREFIX})(.+)_([0-9]{{1,6}})")


@dataclass(frozen=True, slots=True)
class ResponseView:
    """What a caller wants to see of a document.

    Attributes:
        link_to: makes links to pictures.
        settings: what the response repeats of its request.
        stop_strings: whether the request has any.
        logprobs: whether it asks for log probabilities.
    """

    link_to: LinkTo
    settings: ResponseSettings
    stop_strings: bool
    logprobs: bool


async def render_response(document: Document, view: ResponseView) -> bytes:
    """The JSON response of a document, as far as it is."""
    return await asyncio.to_thread(lambda: response_of(document, view).model_dump_json(by_alias=True).encode())


def response_of(document: Document, view: ResponseView) -> Response:
    """The response of a document, as far as it is. Takes long if there are pictures: not for the event loop."""
    status, error = response_status(document), document.error
    return Response(
        **dict(view.settings),
        id=document.id,
        created_at=document.created,
        model=document.model,
        status=status,
        error=ResponseError(message=error.message, type=error.code) if error and status == "failed" else None,
        incomplete_details=IncompleteDetails() if status == "incomplete" else None,
        output=output_of(document, view),
        usage=None if status == "in_progress" else response_usage(document.usage),
    )


def response_status(document: Document) -> ResponseStatus:
    """How far a document is, as OpenAI says it: one that reached a limit is not complete."""
    return "incomplete" if document.finish_reason == "length" else document.status


def output_of(document: Document, view: ResponseView) -> list[OutputItem]:
    """The output items of a document."""
    parts = document.parts
    return [item_of(document, parts, index, view) for index in range(len(parts))]


def item_of(document: Document, parts: Sequence[AnswerPart], index: int, view: ResponseView) -> OutputItem:
    """The output item of one of the document's parts."""
    part = parts[index]
    if isinstance(part, AnswerImage):
        return image_call(document, index, part, view.link_to)
    return MessageItem(
        id=item_id(document.id, MESSAGE_PREFIX, index),
        status=message_status(document, is_last=index == len(parts) - 1),
        content=[text_part(part, view)],
    )


def message_status(document: Document, is_last: bool) -> MessageStatus:
    """How far a message is: a document that is not complete breaks off in its last part."""
    status = response_status(document)
    if status == "completed" or not is_last:
        return "completed"
    return "in_progress" if status == "in_progress" else "incomplete"


def text_part(part: AnswerText, view: ResponseView) -> OutputTextPart:
    """The one part of a message."""
    return OutputTextPart(text=part.text, logprobs=shown_logprobs(part.logprobs, view))


def image_call(document: Document, index: int, part: AnswerImage, link_to: LinkTo) -> ImageCallItem:
    """The image generation call of a part. Only an unfinished document has pictures that are still being drawn."""
    id = item_id(document.id, IMAGE_CALL_PREFIX, index)
    if part.image is not None:
        return drawn_call(id, part.image, link_to)
    if part.code is None and document.status == "in_progress":
        return ImageCallItem(id=id, status="in_progress")
    error = ImageCallError(code=part.code or "missing", message=part.message or "there is no picture")
    return ImageCallItem(id=id, status="failed", error=error)


def drawn_call(id: str, image: Image, link_to: LinkTo) -> ImageCallItem:
    """The call of a picture that is finished."""
    return ImageCallItem(
        id=id,
        status="completed",
        result=base64_of(image) if image.delivery == "inline" else None,
        url=link_to(image) if image.delivery == "url" else None,
        output_format=image.format,
        seed=image.seed,
        size=size_of(image),
    )


def size_of(image: Image) -> str:
    """Width x height."""
    return f"{image.width}x{image.height}"


def item_id(response_id: str, prefix: str, index: int) -> str:
    """Id of an output item: it tells the response that the item is of, and its place there."""
    return f"{prefix}{response_id.removeprefix(RESPONSE_PREFIX)}_{index}"


def response_and_index(id: str) -> tuple[str, int] | None:
    """What :func:`item_id` made an id of: the id of the response, and the place in it; None for another id."""
    found = ITEM_ID.fullmatch(id)
    return (f"{RESPONSE_PREFIX}{found[1]}", int(found[2])) if found else None


def shown_logprobs(tokens: tuple[TokenLogprob, ...], view: ResponseView) -> list[ShownLogprob]:
    """Log probabilities of a text, if they were asked for."""
    return logprobs_of(tokens).content if view.logprobs else []


def response_usage(usage: Usage) -> ResponseUsage:
    """What the document cost, its total as OpenAI counts it."""
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=ResponseInputDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        image_tokens=usage.image_tokens,
        images=usage.images,
        denoising_steps=usage.denoising_steps,
    )
