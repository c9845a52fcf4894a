"""The events of a document: all that a client, a log or the journal ever sees of an answer.

A document is an ordered list of parts, each text or image. ``sequence`` rises by one with every event of a document,
``part`` is the index of the part that an event belongs to.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeGuard

from server.pool.base import ImageFormat

FinishReason = Literal["stop", "length"]
LengthLimit = Literal["max_tokens", "context"]
Delivery = Literal["inline", "url"]
Status = Literal["in_progress", "completed", "failed", "cancelled"]
CANCELLED = "cancelled"
"""Code of the ``DocumentFailed`` of a document that was ended because nobody wanted it any more."""
CONTENT_FILTERED = "content_filtered"
"""Code of the ``ImageFailed`` of a picture that was drawn, and that a check refused."""


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded picture.

    Attributes:
        data: the encoded bytes.
        format: their encoding.
        width: in pixels.
        height: in pixels.
        seed: the seed that draws the same picture again, given the same context.
        id: names these bytes; nobody can guess it.
        delivery: ``"inline"`` shows readers the picture itself; ``"url"`` a link to it: it is in the store of pictures.
    """

    data: bytes = field(repr=False)
    format: ImageFormat
    width: int
    height: int
    seed: int
    id: str
    delivery: Delivery = "inline"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost, over all the engine requests that it took.

    Attributes:
        prompt_tokens: tokens of the request, the patches of its pictures included.
        completion_tokens: tokens that the model sampled: text, dream tokens, the end token. ``max_tokens`` limits them.
        image_tokens: tokens put into the context for pictures of the answer: queries, patches and their delimiters.
        images: pictures drawn.
        denoising_steps: UNet steps of all pictures drawn, each counted once for both guidance branches.
        length_limit: what ended a document whose ``finish_reason`` is ``"length"``.
        cached_tokens: of the prompt tokens, those that the prefix cache had.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    image_tokens: int = 0
    images: int = 0
    denoising_steps: int = 0
    length_limit: LengthLimit | None = None
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """What every event carries."""

    sequence: int


@dataclass(frozen=True, slots=True)
class DocumentStarted(Event):
    """The first event: the request was admitted and is running."""

    id: str
    model: str
    created: int


@dataclass(frozen=True, slots=True)
class PartEvent(Event):
    """An event of one part."""

    part: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and how likely it was.

    Attributes:
        token: its text; U+FFFD stands for bytes that are no whole character.
        bytes: its bytes. Those of a character that took several tokens are in all of them.
        logprob: see :class:`~server.llm.engine.TokenLogprobs`.
        top: the likeliest tokens in its place, likeliest first, as many as were asked for; empty in these themselves.
    """

    token: str
    bytes: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta(PartEvent):
    """More text of a text part. The first one of a part begins it.

    Attributes:
        text: never empty.
        logprobs: the tokens whose text begins in this one, and those before them that have no text of their own;
            empty unless asked for. Tokens that make up characters together begin where these do.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageQueued(PartEvent):
    """The model asked for a picture. Begins an image part.

    Attributes:
        position: image jobs ahead of this one; 0 when it starts at once.
        eta_s: expected seconds until the picture is finished, if the pool can tell.
    """

    position: int
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class ImageProgress(PartEvent):
    """``step`` of ``steps`` denoising steps are done."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class ImagePreview(PartEvent):
    """An early view of the picture; ``index`` counts the previews of this part from 0."""

    index: int
    image: Image


@dataclass(frozen=True, slots=True)
class ImageCompleted(PartEvent):
    """The picture. Ends its part."""

    image: Image


@dataclass(frozen=True, slots=True)
class ImageFailed(PartEvent):
    """There will be no picture. Ends its part; the document goes on."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class DocumentCompleted(Event):
    """The last event of a document that ended well."""

    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class DocumentFailed(Event):
    """The last event of a document that could not be finished."""

    code: str
    message: str
    usage: Usage


DocumentEvent = (
    DocumentStarted
    | TextDelta
    | ImageQueued
    | ImageProgress
    | ImagePreview
    | ImageCompleted
    | ImageFailed
    | DocumentCompleted
    | DocumentFailed
)


def numbered(event: DocumentEvent, sequence: int) -> DocumentEvent:
    """The event with its number."""
    if isinstance(event, TextDelta):  # by hand, because there is one for every token
        return TextDelta(sequence, event.part, event.text, event.logprobs)
    return replace(event, sequence=sequence)


def is_last(event: DocumentEvent) -> TypeGuard[DocumentCompleted | DocumentFailed]:
    """Whether a document ends with this event."""
    return isinstance(event, DocumentCompleted | DocumentFailed)


def status_after(event: DocumentEvent) -> Status:
    """How far a document is whose latest event is this one."""
    match event:
        case DocumentCompleted():
            return "completed"
        case DocumentFailed(code=code):
            return "cancelled" if code == CANCELLED else "failed"
    return "in_progress"
