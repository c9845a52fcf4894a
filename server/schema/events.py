"""The server-sent events of ``/v1/interleaved``: ``type`` is also their ``event:``, ``sequence`` their ``id:``."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field

from server.schema.interleaved import DocumentUsage, ImageContent, PartError


class StreamEvent(BaseModel):
    """What every event carries."""

    sequence: int = Field(description="Rises by one with every event of a document.")


class StreamPartEvent(StreamEvent):
    """An event of one part of the document."""

    part: int = Field(description="Index of the part in the document.")


class DocumentStartedEvent(StreamEvent):
    """The first event."""

    type: Literal["document.started"] = "document.started"
    id: str
    model: str
    created: int = Field(description="Unix time in seconds.")


class TextDeltaEvent(StreamPartEvent):
    """More text of a part."""

    type: Literal["text.delta"] = "text.delta"
    text: str


class ImageQueuedEvent(StreamPartEvent):
    """The model asked for a picture."""

    type: Literal["image.queued"] = "image.queued"
    position: int = Field(description="Pictures ahead of this one.")
    eta_s: float | None = Field(description="Expected seconds until it is finished, if that is known.")


class ImageProgressEvent(StreamPartEvent):
    """Denoising steps done."""

    type: Literal["image.progress"] = "image.progress"
    step: int
    steps: int


class ImagePreviewEvent(StreamPartEvent):
    """An early view of a picture."""

    type: Literal["image.preview"] = "image.preview"
    index: int
    image: ImageContent


ImageProgressing = Annotated[ImageQueuedEvent | ImageProgressEvent | ImagePreviewEvent, Field(discriminator="type")]


class ImageCompletedEvent(StreamPartEvent):
    """The picture."""

    type: Literal["image.completed"] = "image.completed"
    image: ImageContent


class ImageFailedEvent(StreamPartEvent):
    """There will be no picture; the document goes on."""

    type: Literal["image.failed"] = "image.failed"
    error: PartError


class DocumentCompletedEvent(StreamEvent):
    """The last event of a document that ended well."""

    type: Literal["document.completed"] = "document.completed"
    finish_reason: Literal["stop", "length"]
    usage: DocumentUsage


class DocumentFailedEvent(StreamEvent):
    """The last event of a document that could not be finished."""

    type: Literal["document.failed"] = "document.failed"
    error: PartError
    usage: DocumentUsage


InterleavedEvent = Annotated[
    DocumentStartedEvent
    | TextDeltaEvent
    | ImageQueuedEvent
    | ImageProgressEvent
    | ImagePreviewEvent
    | ImageCompletedEvent
    | ImageFailedEvent
    | DocumentCompletedEvent
    | DocumentFailedEvent,
    Field(discriminator="type"),
]

EVENT_TYPES = frozenset(event.model_fields["type"].default for event in get_args(get_args(InterleavedEvent)[0]))
