"""Request of ``POST /v1/chat/completions``: OpenAI's, vLLM's extras, and the picture parameters of this server."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, Tag

from server.schema.content import TEXT_OR_LIST, Content, ImageURL, RequestModel
from server.schema.interleaved import ImageOptions
from server.schema.sampling import MAX_COUNT, SamplingOptions
from server.schema.unsupported import Unsupported

ImageOutput = Literal["images", "content", "markdown"]


def with_text(modalities: list[str]) -> list[str]:
    """Refuse an answer without text: the model chooses when to draw."""
    if "text" not in modalities:
        raise ValueError("must hold 'text': this model draws pictures into its text")
    return modalities


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class AnswerText(RequestModel):
    """Text of an earlier answer; ``index`` is its place in the content of a stream, and not needed."""

    type: Literal["text"]
    text: str
    index: int | None = None


class AnswerRefusal(RequestModel):
    """What another model said to refuse. This one reads it as text."""

    type: Literal["refusal"]
    refusal: str


class AnswerImage(RequestModel):
    """A picture of an earlier answer, as this server gave it. Only its URL and its place in the text are needed."""

    type: Literal["image_url"]
    image_url: ImageURL
    text_offset: int | None = Field(
        default=None,
        ge=0,
        description="Of a picture in `images`: characters of the message's text before it. By default all of them.",
    )
    part: int | None = Field(default=None, description="Orders pictures with the same `text_offset`.")
    index: int | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None


class AnswerFailedImage(RequestModel):
    """A picture that could not be drawn: the model is not shown anything in its place."""

    type: Literal["failed_image"]
    error: dict[str, Any]
    index: int | None = None


AnswerPart = Annotated[AnswerText | AnswerRefusal | AnswerImage | AnswerFailedImage, Field(discriminator="type")]
AnswerContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[AnswerPart], Field(min_length=1), Tag("list")], TEXT_OR_LIST
]


class PromptMessage(RequestModel):
    """What the model is told or asked."""

    role: Literal["system", "developer", "user"]
    content: Content
    name: str | None = Field(default=None, description="Read for compatibility: this model is told no names.")


class AssistantMessage(RequestModel):
    """What the model answered before, with its pictures in the content or beside it, as this server gave them."""

    role: Literal["assistant"]
    content: AnswerContent | None = None
    images: list[AnswerImage] = Field(default=[], description="Pictures, if they are not in the content.")
    failed_images: list[dict[str, Any]] = Field(default=[], description="Read for compatibility: shows nothing.")
    parsed: Any = Field(default=None, description="Read for compatibility: OpenAI's client sends along what it parsed.")
    provider_specific_fields: dict[str, Any] = Field(
        default={}, description="Read for compatibility: LiteLLM sends it along, and nothing in it."
    )
    refusal: str | None = Field(default=None, description="Read as the content of a message without one.")
    name: str | None = Field(default=None, description="Read for compatibility: this model is told no names.")
    annotations: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None
    tool_calls: Unsupported = None


ChatMessage = Annotated[PromptMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(RequestModel):
    """What a stream tells besides the answer."""

    include_usage: bool = Field(default=False, description="Tell the usage in a last chunk without choices.")
    continuous_usage_stats: bool = Field(default=False, description="Tell the usage so far in every chunk; vLLM's.")
    include_image_events: bool = Field(
        default=False,
        description="Tell how pictures come along: chunks with an empty delta and an `image_event`, which is one of "
        "the `image.queued`, `image.progress` and `image.preview` events of `/v1/interleaved`.",
    )
    include_obfuscation: bool = Field(default=False, description="Read for compatibility: chunks are not padded.")


class JSONSchema(RequestModel):
    """A schema for the answer."""

    name: str | None = None
    description: str | None = Field(default=None, description="Read for compatibility: the model is not shown it.")
    definition: dict[str, Any] = Field(alias="schema")
    strict: bool = Field(default=True, description="Read for compatibility: the answer always follows the schema.")


class TextFormat(RequestModel):
    """Any text."""

    type: Literal["text"]


class JSONObjectFormat(RequestModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JSONSchemaFormat(RequestModel):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


ResponseFormat = Annotated[TextFormat | JSONObjectFormat | JSONSchemaFormat, Field(discriminator="type")]


class ChatCompletionRequest(SamplingOptions):
    """A request for the next message of a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "Draw two pictures: a red circle, then a blue star."}],
                    "stream": True,
                },
                {
                    "messages": [{"role": "user", "content": "What is a star?"}],
                    "modalities": ["text"],
                    "max_completion_tokens": 100,
                    "temperature": 0,
                },
            ]
        }
    )

    model: str | None = Field(default=None, description="Name of the model. By default the one that is served.")
    messages: list[ChatMessage] = Field(min_length=1, description="The conversation, oldest message first.")
    stream: bool = Field(default=False, description="Send chunks while the answer is made.")
    stream_options: StreamOptions | None = Field(default=None, description="Only with `stream`.")
    max_completion_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        description="Tokens that the model may write. By default as many as the context holds.",
    )
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_COUNT, description="The same, by its older name.")
    n: Literal[1] = Field(default=1, description="Answers. There is one; for more, send more requests.")
    logprobs: bool = Field(default=False, description="Tell the log probability of every token of text.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="Tell those of so many of the likeliest tokens too. With `logprobs`."
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="What the text must be. JSON is for answers of text alone."
    )
    modalities: Annotated[list[Literal["text", "image"]], AfterValidator(with_text)] | None = Field(
        default=None,
        min_length=1,
        description='`["text"]` bars pictures. By default both are allowed, except with JSON as the response format.',
    )
    images: ImageOptions = Field(
        default=ImageOptions(),
        description="How the pictures are drawn. Previews need `stream_options.include_image_events`.",
    )
    image_output: ImageOutput = Field(
        default="images",
        description="Where the pictures of the answer are: in a list `images` beside the text; in the content, "
        "which is then a list of parts in their order; or in the text, as Markdown. With `markdown`, the pictures in "
        "the text of earlier answers are read as such.",
    )
    store: bool = Field(
        default=False,
        description="Keep the answer for a time, and finish it even if the caller leaves: see `GET` of its id.",
    )
    metadata: Metadata = Field(default={}, description="Notes of the caller's, kept with a stored answer.")
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = Field(
        default=None, description="There is one tier, which the answer then names: `default`."
    )

    user: str | None = Field(default=None, description="Read for compatibility: changes nothing.")
    safety_identifier: str | None = Field(default=None, description="Read for compatibility: changes nothing.")
    prompt_cache_key: str | None = Field(
        default=None, description="Read for compatibility: prefixes are cached without it."
    )
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = Field(
        default=None, description="Read for compatibility: prefixes are cached without it."
    )
    parallel_tool_calls: bool = Field(default=True, description="Read for compatibility: there are no tools.")
    tool_choice: Literal["none", "auto"] = Field(
        default="auto", description="Read for compatibility: there are no tools."
    )

    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    moderation: Unsupported = None
    prediction: Unsupported = None
    reasoning_effort: Unsupported = None
    tools: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None
