"""Response and stream of ``POST /v1/chat/completions``: OpenAI's, with pictures as OpenRouter and LiteLLM have them.

OpenAI's types are those of its Python package, ``openai.types.chat``. A picture in ``images`` is
``{"type": "image_url", "image_url": {"url": …}, "index": …}``
(https://openrouter.ai/docs/features/multimodal/image-generation,
https://docs.litellm.ai/docs/completion/image_generation_chat); what else it holds is of this server.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from server.schema.events import ImageProgressing
from server.schema.interleaved import DocumentUsage, PartError
from server.schema.left_out import LeftOut


class PictureURL(BaseModel):
    """Where a picture is."""

    url: str = Field(description="A data URL, or one of this server's.")


class Picture(BaseModel):
    """A picture in the content."""

    type: Literal["image_url"] = "image_url"
    image_url: PictureURL
    index: int = Field(description="Its place in the list that it stands in.")
    width: int
    height: int
    seed: int = Field(description="The seed that draws the same picture again, given the same context.")


class PlacedPicture(Picture):
    """A picture beside the text.

    In a stream, ``index`` counts the pictures as they come; ``part`` tells their order if the model was not shown them.
    """

    part: int = Field(description="Its place in the answer, counting stretches of text too.")
    text_offset: int = Field(description="Characters of the text before it, as Unicode code points.")


class FailedPicture(BaseModel):
    """Stands in the content for a picture that could not be drawn."""

    type: Literal["failed_image"] = "failed_image"
    index: int
    error: PartError


class PlacedFailedPicture(FailedPicture):
    """A picture that could not be drawn, and where it would be."""

    part: int
    text_offset: int


class TextPiece(BaseModel):
    """Text in the content. Deltas of the same index belong together."""

    type: Literal["text"] = "text"
    index: int
    text: str


ContentPart = Annotated[TextPiece | Picture | FailedPicture, Field(discriminator="type")]
AnswerContent = str | list[ContentPart]


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: AnswerContent = Field(description="Text; with `image_output` of `content` a list of parts.")
    refusal: None = None
    images: Annotated[list[PlacedPicture] | None, LeftOut] = None
    failed_images: Annotated[list[PlacedFailedPicture] | None, LeftOut] = None


class AnswerDelta(BaseModel):
    """More of the answer."""

    role: Annotated[Literal["assistant"] | None, LeftOut] = None
    content: Annotated[AnswerContent | None, LeftOut] = None
    images: Annotated[list[PlacedPicture] | None, LeftOut] = None
    failed_images: Annotated[list[PlacedFailedPicture] | None, LeftOut] = None


class TopLogprob(BaseModel):
    """A token that might have come, and its log probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the text, and its log probability."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """Log probabilities of the tokens of text."""

    content: list[TokenLogprob]
    refusal: None = None


class PromptTokensDetails(BaseModel):
    """Kinds of prompt tokens."""

    audio_tokens: Literal[0] = 0
    cached_tokens: int = Field(description="Those that the prefix cache had.")


class CompletionTokensDetails(BaseModel):
    """Kinds of sampled tokens."""

    accepted_prediction_tokens: Literal[0] = 0
    audio_tokens: Literal[0] = 0
    reasoning_tokens: Literal[0] = 0
    rejected_prediction_tokens: Literal[0] = 0


class CompletionUsage(DocumentUsage):
    """What an answer cost: OpenAI's numbers, and what the pictures took besides."""

    total_tokens: int = Field(description="Tokens of prompt and completion. Those of the pictures are not among them.")
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The answer, whole."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time in seconds.")
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    service_tier: Annotated[Literal["default"] | None, LeftOut] = None
    metadata: Annotated[dict[str, str] | None, LeftOut] = None


class ChunkChoice(BaseModel):
    """More of the one answer."""

    index: Literal[0] = 0
    delta: AnswerDelta
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatCompletionChunk(BaseModel):
    """An event of a stream. The last one is the text ``[DONE]``, or an error in OpenAI's shape."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int = Field(description="Unix time in seconds.")
    model: str
    choices: list[ChunkChoice] = Field(description="Empty in the chunk that tells the usage.")
    usage: CompletionUsage | None = Field(default=None, description="Only with `stream_options.include_usage`.")
    service_tier: Annotated[Literal["default"] | None, LeftOut] = None
    image_event: Annotated[ImageProgressing | None, LeftOut] = Field(
        default=None, description="Only with `stream_options.include_image_events`."
    )


class DeletedChatCompletion(BaseModel):
    """A stored answer that is there no more."""

    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: Literal[True] = True
