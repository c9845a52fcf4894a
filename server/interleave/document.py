"""The document: what was asked for, and the answer put together from its events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from server.interleave.events import (
    Delivery,
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    FinishReason,
    Image,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    Status,
    TextDelta,
    TokenLogprob,
    Usage,
    status_after,
)
from server.llm.conversation import Message, TextPart
from server.pool.base import ImageFormat, SchedulerName

Feedback = Literal["image", "none"]
OnOverload = Literal["wait", "skip", "fail"]


@dataclass(frozen=True, slots=True)
class ImageParams:
    """How the pictures of an answer are drawn.

    Attributes:
        max: pictures at most; 0 asks for text alone.
        width: in pixels.
        height: in pixels.
        steps: denoising steps of each picture.
        guidance_scale: 1 or less draws without guidance.
        negative_prompt: what the guidance steers away from; None is the empty prompt.
        scheduler: the sampler.
        seed: makes the pictures repeatable; None leaves that to the seed of the request.
        format: encoding of the pictures.
        previews: early views of each picture.
        feedback: ``"image"`` shows the model each picture that it drew before the text goes on; ``"none"`` does not,
            and the text goes on while the pictures are drawn.
        delivery: ``"url"`` puts each finished picture into the store of pictures, and readers get a link to it.
        on_overload: what becomes of a picture for which the pool has too much to do: the answer waits for it, its part
            fails and the text goes on, or the document fails.
    """

    max: int
    width: int
    height: int
    steps: int
    guidance_scale: float
    negative_prompt: str | None
    scheduler: SchedulerName
    seed: int | None
    format: ImageFormat
    previews: int
    feedback: Feedback
    delivery: Delivery = "inline"
    on_overload: OnOverload = "wait"


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One request for a document, checked and complete: no default is left to fill in.

    Attributes:
        id: unique; names the answer and everything that is started for it.
        model: the name by which the caller asked for the model.
        messages: the conversation, oldest first.
        max_tokens: sampled tokens at most, over the whole answer; None writes until the context is full.
        temperature: 0 is greedy.
        top_p: nucleus mass.
        top_k: 0 keeps all tokens.
        seed: makes the answer repeatable; None draws at random.
        stop: strings that end the answer; they are not part of it.
        images: how pictures are drawn.
        min_p: drops tokens less likely than this share of the likeliest one.
        repetition_penalty: divides the odds of tokens of the whole context; 1 changes nothing.
        presence_penalty: taken off the logits of tokens of the answer.
        frequency_penalty: taken off the logits of tokens of the answer, once for each time.
        logit_bias: added to the logits of token ids. It cannot bring back a control token.
        logprobs: tell the log probability of each token of text, and of so many alternatives, 0 to 20.
        json_schema: the answer is JSON of this JSON schema, itself in JSON. For text alone: ``images.max`` is 0.
        ignore_eos: the model may not end the answer: it goes on to a stop string or a limit.
    """

    id: str
    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stop: tuple[str, ...]
    images: ImageParams
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    json_schema: str | None = None
    ignore_eos: bool = False

    @property
    def letters(self) -> int:
        """Characters of text that have to be tokenized."""
        parts = (part for message in self.messages for part in message.parts)
        written = sum(len(part.text) for part in parts if isinstance(part, TextPart))
        return written + len(self.images.negative_prompt or "")


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A text part of the answer.

    Attributes:
        text: all of it.
        logprobs: its tokens, if they were asked for; see :class:`~server.interleave.events.TextDelta`.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerImage:
    """An image part of the answer.

    Attributes:
        image: the picture; None while it is drawn, and for good when it failed.
        code: why it failed, for programs; None unless it did.
        message: why it failed, for people; None unless it did.
    """

    image: Image | None = None
    code: str | None = None
    message: str | None = None


AnswerPart = AnswerText | AnswerImage


def answer_text(deltas: Sequence[TextDelta]) -> AnswerText:
    """The text part that deltas make together."""
    return AnswerText("".join(delta.text for delta in deltas), tuple(t for delta in deltas for t in delta.logprobs))


@dataclass(slots=True)
class Document:
    """An answer, complete as far as the events that were applied to it.

    Attributes:
        id: id of the answer.
        model: name of the model.
        created: Unix time in seconds.
        status: how far it is.
        finish_reason: why the document ended; None until it ended well.
        usage: what it cost; zeros until it ended.
        error: the event that ended a document that could not be finished.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    status: Status = "in_progress"
    finish_reason: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)
    error: DocumentFailed | None = None
    _parts: dict[int, AnswerImage | list[TextDelta]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, events: Iterable[DocumentEvent]) -> Self:
        """The answer, as far as these events tell it."""
        document = cls()
        for event in events:
            document.apply(event)
        return document

    @property
    def parts(self) -> tuple[AnswerPart, ...]:
        """The parts in the order of the document, which need not be the order in which they came."""
        ordered = (part for _, part in sorted(self._parts.items()))
        return tuple(answer_text(part) if isinstance(part, list) else part for part in ordered)

    @property
    def linked_images(self) -> list[str]:
        """Ids of the finished pictures that are delivered as links, and so in the store of pictures."""
        images = [part.image for part in self._parts.values() if isinstance(part, AnswerImage)]
        return [image.id for image in images if image is not None and image.delivery == "url"]

    def apply(self, event: DocumentEvent) -> None:
        """Add what one event tells."""
        self.status = status_after(event)
        match event:
            case DocumentStarted(id=id, model=model, created=created):
                self.id, self.model, self.created = id, model, created
            case TextDelta(part=index):
                pieces = self._parts.setdefault(index, [])
                if not isinstance(pieces, list):
                    raise ValueError(f"part {index} is an image, but event {event.sequence} brings text for it")
                pieces.append(event)
            case ImageQueued(part=index) | ImageProgress(part=index) | ImagePreview(part=index):
                self._parts.setdefault(index, AnswerImage())
            case ImageCompleted(part=index, image=image):
                self._parts[index] = AnswerImage(image)
            case ImageFailed(part=index, code=code, message=message):
                self._parts[index] = AnswerImage(None, code, message)
            case DocumentCompleted(finish_reason=reason, usage=usage):
                self.finish_reason, self.usage = reason, usage
            case DocumentFailed(usage=usage):
                self.error, self.usage = event, usage
