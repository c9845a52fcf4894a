"""Documents and their events as ``/v1/chat/completions`` shows them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from server.interleave.document import AnswerImage, AnswerText, Document
from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    FinishReason,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    TextDelta,
    TokenLogprob,
    Usage,
)
from server.interleave.renderers.chat_deltas import DELTAS, Deltas, message_of
from server.interleave.renderers.delivery import LinkTo, picture_url
from server.interleave.renderers.frames import event_frame
from server.interleave.renderers.interleaved import progress_of, usage_of
from server.interleave.renderers.ordered import PartOrder
from server.schema import chat_completion as chat
from server.schema.chat import ImageOutput
from server.schema.errors import ErrorBody, ErrorResponse
from server.schema.events import ImageProgressing
from server.schema.interleaved import PartError

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class ChatView:
    """What a caller wants to see of a document.

    Attributes:
        link_to: makes links to pictures.
        image_output: where its pictures go.
        stop_strings: whether the request has any.
        logprobs: whether it asks for log probabilities.
        service_tier: what the answer says of it, if the request does.
        metadata: the notes of a stored answer.
        include_usage: whether a stream ends with the usage.
        usage_so_far: told with every chunk of a stream, if it is asked for.
        include_image_events: whether a stream tells how pictures come along.
    """

    link_to: LinkTo
    image_output: ImageOutput = "images"
    stop_strings: bool = False
    logprobs: bool = False
    service_tier: Literal["default"] | None = None
    metadata: dict[str, str] | None = None
    include_usage: bool = False
    usage_so_far: Callable[[], Usage] | None = None
    include_image_events: bool = False


async def render_completion(document: Document, view: ChatView) -> bytes:
    """The JSON response of a document that ended well."""
    return await asyncio.to_thread(lambda: completion_of(document, view).model_dump_json().encode())


async def render_chunks(events: AsyncIterator[DocumentEvent], view: ChatView) -> AsyncIterator[bytes]:
    """The events of a document as server-sent events. Pictures are encoded on a thread."""
    order = PartOrder(view.stop_strings, pictures_in_line=view.image_output != "images")
    chunks = Chunks(view)
    async for event in events:
        for shown in order.pass_on(event):
            large = isinstance(shown, ImageCompleted | ImagePreview)
            for frame in await asyncio.to_thread(chunks.frames, shown) if large else chunks.frames(shown):
                yield frame


class Chunks:
    """Renders the events of one document, in the order in which they are shown."""

    def __init__(self, view: ChatView) -> None:
        self._view = view
        self._deltas: Deltas = DELTAS[view.image_output]()
        self._started = DocumentStarted(0, "", "", 0)
        self._role: Literal["assistant"] | None = "assistant"  # told by the first chunk

    def frames(self, event: DocumentEvent) -> list[bytes]:
        """An event as server-sent events."""
        match event:
            case DocumentStarted():
                self._started = event
                # A client that added parts to the empty text of a first chunk would keep it as one: LangChain's does.
                in_parts = isinstance(self._deltas.nothing, list)
                return [] if in_parts else [self._chunk(delta=chat.AnswerDelta(content=self._deltas.nothing))]
            case TextDelta(part=part, text=text, logprobs=tokens):
                logprobs = logprobs_of(tokens) if self._view.logprobs else None
                return [self._chunk(delta=self._deltas.text(part, text), logprobs=logprobs)]
            case ImageCompleted(part=part, image=image):
                return [self._chunk(delta=self._deltas.picture(part, image, picture_url(image, self._view.link_to)))]
            case ImageFailed(part=part, code=code, message=message):
                return [self._chunk(delta=self._deltas.failed_picture(part, PartError(code=code, message=message)))]
            case ImageQueued() | ImageProgress() | ImagePreview():
                progress = progress_of(event) if self._view.include_image_events else None
                return [self._chunk(delta=chat.AnswerDelta(), image_event=progress)] if progress else []
            case DocumentCompleted(finish_reason=reason, usage=usage):
                told = [self._chunk(delta=None, usage=usage)] if self._view.include_usage else []
                return [self._chunk(delta=chat.AnswerDelta(), finish_reason=reason), *told, DONE]
            case DocumentFailed(code=code, message=message):
                error = ErrorBody(message=message, type="server_error", code=code)
                return [event_frame(ErrorResponse(error=error).model_dump_json())]

    def _chunk(
        self,
        delta: chat.AnswerDelta | None,
        logprobs: chat.Logprobs | None = None,
        finish_reason: FinishReason | None = None,
        usage: Usage | None = None,
        image_event: ImageProgressing | None = None,
    ) -> bytes:
        choices = []
        if delta is not None:
            delta.role, self._role = self._role, None
            choices = [chat.ChunkChoice(delta=delta, logprobs=logprobs, finish_reason=finish_reason)]
        if usage is None and self._view.usage_so_far is not None:
            usage = self._view.usage_so_far()
        chunk = chat.ChatCompletionChunk(
            id=self._started.id,
            created=self._started.created,
            model=self._started.model,
            choices=choices,
            usage=None if usage is None else completion_usage(usage),
            service_tier=self._view.service_tier,
            image_event=image_event,
        )
        # As OpenAI's: no usage at all, or one in the last chunk and null in the others.
        return event_frame(chunk.model_dump_json(exclude=None if self._view.include_usage else {"usage"}))


def completion_of(document: Document, view: ChatView) -> chat.ChatCompletion:
    """The response of a document that ended well: what its deltas add up to.

    Raises:
        ValueError: it did not.
    """
    if document.finish_reason is None:
        raise ValueError(f"document {document.id} has not ended well")
    deltas = DELTAS[view.image_output]()
    pieces = [delta_of(deltas, index, part, view) for index, part in enumerate(document.parts)]
    tokens = [token for part in document.parts if isinstance(part, AnswerText) for token in part.logprobs]
    choice = chat.Choice(
        message=message_of(deltas.nothing, pieces),
        logprobs=logprobs_of(tokens) if view.logprobs else None,
        finish_reason=document.finish_reason,
    )
    return chat.ChatCompletion(
        id=document.id,
        created=document.created,
        model=document.model,
        choices=[choice],
        usage=completion_usage(document.usage),
        service_tier=view.service_tier,
        metadata=view.metadata,
    )


def delta_of(deltas: Deltas, index: int, part: AnswerText | AnswerImage, view: ChatView) -> chat.AnswerDelta:
    """What a whole part adds."""
    if isinstance(part, AnswerText):
        return deltas.text(index, part.text)
    if part.image is not None:
        return deltas.picture(index, part.image, picture_url(part.image, view.link_to))
    error = PartError(code=part.code or "missing", message=part.message or "there is no picture")
    return deltas.failed_picture(index, error)


def logprobs_of(tokens: Iterable[TokenLogprob]) -> chat.Logprobs:
    """Log probabilities of a text."""
    return chat.Logprobs(
        content=[
            chat.TokenLogprob(**dict(token_of(token)), top_logprobs=[token_of(likely) for likely in token.top])
            for token in tokens
        ]
    )


def token_of(token: TokenLogprob) -> chat.TopLogprob:
    """A token and its log probability."""
    return chat.TopLogprob(token=token.token, logprob=token.logprob, bytes=list(token.bytes))


def completion_usage(usage: Usage) -> chat.CompletionUsage:
    """What the document cost, its total as OpenAI counts it."""
    numbers = dict(usage_of(usage)) | {"total_tokens": usage.prompt_tokens + usage.completion_tokens}
    details = chat.PromptTokensDetails(cached_tokens=usage.cached_tokens)
    return chat.CompletionUsage(**numbers, prompt_tokens_details=details)
