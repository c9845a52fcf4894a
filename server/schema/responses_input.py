"""Input items of ``POST /v1/responses``: what was said, answered and drawn before.

Items of earlier answers may be sent back as they came, or named by their ids if their response was stored.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from server.schema.content import TEXT_OR_LIST, ImageSource, InputImageContent, RequestModel, TextContent
from server.schema.interleaved import ImageFormat
from server.schema.unsupported import Unsupported

ItemStatus = Annotated[
    Literal["in_progress", "generating", "completed", "incomplete", "failed"],
    Field(description="Read for compatibility: an item is what it holds."),
]


CacheBreakpoint = Annotated[
    dict[str, Any] | None, Field(description="Read for compatibility: prefixes are cached without it.")
]


class InputText(TextContent):
    """A piece of text."""

    type: Literal["input_text"]
    prompt_cache_breakpoint: CacheBreakpoint = None


class InputImage(InputImageContent):
    """A picture."""

    type: Literal["input_image"]
    file_id: Unsupported = None
    prompt_cache_breakpoint: CacheBreakpoint = None


class OutputText(RequestModel):
    """Text of an earlier answer. Only the text is needed."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(default=[], description="Read for compatibility: the model is not shown them.")
    logprobs: list[Any] = Field(default=[], description="Read for compatibility: the model is not shown them.")
    parsed: Any = Field(default=None, description="Read for compatibility: OpenAI's client sends along what it parsed.")


class OutputRefusal(RequestModel):
    """What another model said to refuse. This one reads it as text."""

    type: Literal["refusal"]
    refusal: str


InputPart = Annotated[InputText | InputImage, Field(discriminator="type")]
OutputPart = Annotated[OutputText | OutputRefusal, Field(discriminator="type")]


class InputMessage(RequestModel):
    """What the model is told or asked."""

    type: Literal["message"] = "message"
    id: str | None = None
    status: ItemStatus | None = None
    role: Literal["user", "system", "developer"]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[InputPart], Field(min_length=1), Tag("list")], TEXT_OR_LIST
    ]


class EarlierMessage(RequestModel):
    """Text that the model answered before."""

    type: Literal["message"] = "message"
    id: str | None = None
    status: ItemStatus | None = None
    phase: str | None = Field(default=None, description="Read for compatibility: every answer is final.")
    role: Literal["assistant"]
    content: Annotated[Annotated[str, Tag("text")] | Annotated[list[OutputPart], Tag("list")], TEXT_OR_LIST]


class ImageCall(RequestModel):
    """A picture that the model drew before: itself, a link to it, or the id of a stored one. A failed one is nothing.

    What else it holds is read for compatibility, so that it can be sent back as it came.
    """

    type: Literal["image_generation_call"]
    id: str | None = None
    status: ItemStatus | None = None
    result: str | None = Field(default=None, description="The encoded picture, in base64.")
    url: ImageSource | None = None
    action: str | None = None
    background: str | None = None
    error: dict[str, Any] | None = None
    output_format: ImageFormat = "png"
    quality: str | None = None
    revised_prompt: str | None = None
    seed: int | None = None
    size: str | None = None
    svg_usage: None = None


class ItemReference(RequestModel):
    """An item of the output of a stored response, by its id."""

    type: Literal["item_reference"] = "item_reference"
    id: str


def kind_of_item(item: Any) -> str:
    """The member of :data:`InputItem` that an item, read or still to be read, can only be meant for."""
    fields = item if isinstance(item, dict) else getattr(item, "__dict__", {})
    kind, role = fields.get("type"), fields.get("role")
    if kind is None and role is None and "id" in fields:
        return "item_reference"
    if kind in (None, "message"):
        return "answer" if role == "assistant" else "message"
    return str(kind)


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[EarlierMessage, Tag("answer")]
    | Annotated[ImageCall, Tag("image_generation_call")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(
        kind_of_item,
        custom_error_type="unknown_item",
        custom_error_message="Input should be a message, an image_generation_call or an item_reference",
    ),
]
