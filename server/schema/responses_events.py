"""The server-sent events of ``/v1/responses``: ``type`` is also their ``event:``.

OpenAI's types are those of its Python package, ``openai.types.responses``.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from server.schema.chat_completion import TokenLogprob
from server.schema.interleaved import ImageFormat
from server.schema.responses_object import OutputItem, OutputTextPart, Response

LifecycleType = Literal[
    "response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed"
]
ItemEventType = Literal["response.output_item.added", "response.output_item.done"]
ContentPartType = Literal["response.content_part.added", "response.content_part.done"]
ImageCallType = Literal[
    "response.image_generation_call.in_progress",
    "response.image_generation_call.generating",
    "response.image_generation_call.completed",
]


class NumberedEvent(BaseModel):
    """What every event carries."""

    sequence_number: int = Field(description="Rises by one with every event of a response.")


class LifecycleEvent(NumberedEvent):
    """How far the response is. The last event of a stream is one of these."""

    type: LifecycleType = Field(
        description="`response.failed` also ends one that was cancelled, as its `status` then says."
    )
    response: Response


class OutputItemEvent(NumberedEvent):
    """An item begins, or is finished. Items begin in their order; they may be finished in another."""

    type: ItemEventType
    output_index: int = Field(description="Place of the item in the output.")
    item: OutputItem


class ItemEvent(NumberedEvent):
    """An event of one item."""

    item_id: str
    output_index: int = Field(description="Place of the item in the output.")


class ContentPartEvent(ItemEvent):
    """The text of a message begins, or is finished."""

    type: ContentPartType
    content_index: Literal[0] = 0
    part: OutputTextPart


class OutputTextDeltaEvent(ItemEvent):
    """More text of a message."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    content_index: Literal[0] = 0
    delta: str
    logprobs: list[TokenLogprob]


class OutputTextDoneEvent(ItemEvent):
    """All text of a message."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    content_index: Literal[0] = 0
    text: str
    logprobs: list[TokenLogprob]


class ImageCallEvent(ItemEvent):
    """How far a picture is. One that failed is only told by its item being done."""

    type: ImageCallType


class PartialImageCallEvent(ItemEvent):
    """An early view of a picture."""

    type: Literal["response.image_generation_call.partial_image"] = "response.image_generation_call.partial_image"
    partial_image_index: int
    partial_image_b64: str
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    quality: Literal["auto"] = "auto"
    size: str = Field(description="Width x height in pixels.")


ResponseStreamEvent = Annotated[
    LifecycleEvent
    | OutputItemEvent
    | ContentPartEvent
    | OutputTextDeltaEvent
    | OutputTextDoneEvent
    | ImageCallEvent
    | PartialImageCallEvent,
    Field(discriminator="type"),
]
