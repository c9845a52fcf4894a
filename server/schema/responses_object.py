"""The response of ``/v1/responses``: its output items, and what it says of itself.

OpenAI's types are those of its Python package, ``openai.types.responses``; what else they hold is of this server.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from server.schema.chat_completion import TokenLogprob
from server.schema.interleaved import ImageFormat
from server.schema.left_out import LeftOut
from server.schema.responses import ImageGenerationTool, TextConfig
from server.schema.responses_input import InputItem

ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
MessageStatus = Literal["in_progress", "completed", "incomplete"]


class OutputTextPart(BaseModel):
    """Text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default=[], description="There are none.")
    logprobs: list[TokenLogprob] = []


class MessageItem(BaseModel):
    """A stretch of text. It has one part."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: MessageStatus
    content: list[OutputTextPart]


class ImageCallError(BaseModel):
    """Why a picture is missing."""

    code: str
    message: str
    param: None = None
    type: Literal["server_error"] = "server_error"


class ImageCallItem(BaseModel):
    """A picture in its place: itself, or a link to it, as `images.delivery` says."""

    id: str
    type: Literal["image_generation_call"] = "image_generation_call"
    status: Literal["in_progress", "completed", "failed"]
    result: str | None = Field(default=None, description="The encoded picture, in base64.")
    url: Annotated[str | None, LeftOut] = Field(default=None, description="Where the picture can be had for a time.")
    error: Annotated[ImageCallError | None, LeftOut] = None
    background: Literal["opaque"] = "opaque"
    output_format: Annotated[ImageFormat | None, LeftOut] = None
    quality: Literal["auto"] = "auto"
    revised_prompt: None = Field(default=None, description="The model draws what it dreams, not a prompt.")
    seed: Annotated[int | None, LeftOut] = Field(
        default=None, description="The seed that draws the same picture again, given the same context."
    )
    size: Annotated[str | None, LeftOut] = Field(default=None, description="Width x height in pixels.")


OutputItem = Annotated[MessageItem | ImageCallItem, Field(discriminator="type")]


class ResponseInputDetails(BaseModel):
    """Kinds of input tokens."""

    cached_tokens: int = Field(description="Those that the prefix cache had.")
    cache_write_tokens: Literal[0] = 0


class ResponseOutputDetails(BaseModel):
    """Kinds of output tokens."""

    reasoning_tokens: Literal[0] = 0


class ResponseUsage(BaseModel):
    """What a response cost: OpenAI's numbers, and what the pictures took besides."""

    input_tokens: int = Field(description="Tokens of the request, the patches of its pictures included.")
    input_tokens_details: ResponseInputDetails
    output_tokens: int = Field(description="Tokens that the model sampled.")
    output_tokens_details: ResponseOutputDetails = ResponseOutputDetails()
    total_tokens: int = Field(description="Tokens of input and output. Those of the pictures are not among them.")
    image_tokens: int = Field(description="Tokens put into the context for pictures of the answer.")
    images: int = Field(description="Pictures drawn.")
    denoising_steps: int


class ResponseError(BaseModel):
    """Why a response could not be finished."""

    code: Literal["server_error"] = "server_error"
    message: str
    param: None = None
    type: str = Field(description="Short and stable, for programs: what OpenAI has no code for.")


class IncompleteDetails(BaseModel):
    """Why a response ended before its end."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ReasoningConfig(BaseModel):
    """This model does not reason apart from its answer."""

    effort: None = None
    summary: None = None


class ResponseSettings(BaseModel):
    """What a response repeats of its request."""

    background: bool
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    safety_identifier: str | None
    store: bool
    temperature: float = Field(description="What it was sampled with, also where the request left it open.")
    text: TextConfig
    tool_choice: Literal["none", "auto"]
    tools: list[ImageGenerationTool]
    top_logprobs: int
    top_p: float = Field(description="What it was sampled with, also where the request left it open.")
    truncation: Literal["disabled"]
    user: str | None


class Response(ResponseSettings):
    """A response: its output items in order. One that has not ended has those that there are."""

    id: str
    object: Literal["response"] = "response"
    created_at: int = Field(description="Unix time in seconds.")
    model: str
    status: ResponseStatus
    error: ResponseError | None = Field(description="Why it could not be finished; null unless that is so.")
    incomplete_details: IncompleteDetails | None = Field(description="Null unless the status is `incomplete`.")
    output: list[OutputItem]
    reasoning: ReasoningConfig = ReasoningConfig()
    service_tier: Literal["default"] = "default"
    usage: ResponseUsage | None = Field(description="What it cost; null until it has ended.")


class InputItemList(BaseModel):
    """Input items of a stored response."""

    object: Literal["list"] = "list"
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(BaseModel):
    """A stored response that was forgotten."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
