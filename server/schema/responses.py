"""Request of ``POST /v1/responses``: OpenAI's, vLLM's extras, and the picture parameters of this server.

OpenAI's types are those of its Python package, ``openai.types.responses``.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Tag

from server.schema.chat import JSONObjectFormat, JSONSchema, Metadata, TextFormat
from server.schema.content import TEXT_OR_LIST, RequestModel
from server.schema.interleaved import ImageFormat, ImageOptions
from server.schema.responses_input import InputItem
from server.schema.sampling import MAX_COUNT, SamplingOptions
from server.schema.unsupported import Unsupported

LOGPROBS = "message.output_text.logprobs"

Includable = Literal[
    "message.output_text.logprobs",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "web_search_call.action.sources",
    "web_search_call.results",
]


class JSONSchemaTextFormat(JSONSchema):
    """JSON of a schema."""

    type: Literal["json_schema"]


class TextConfig(RequestModel):
    """What the text must be."""

    format: Annotated[TextFormat | JSONObjectFormat | JSONSchemaTextFormat, Field(discriminator="type")] = TextFormat(
        type="text"
    )
    verbosity: Literal["medium"] = Field(
        default="medium", description="Read for compatibility: this model cannot be told how much to say."
    )


class ImageGenerationTool(RequestModel):
    """How pictures are drawn, as OpenAI says it. The model draws them with and without it; see also `images`."""

    type: Literal["image_generation"]
    size: str = Field(
        default="auto",
        pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$",
        description="Width x height in pixels; `auto` is what the model was trained on.",
    )
    output_format: ImageFormat = Field(default="png", description="How pictures are encoded.")
    partial_images: int = Field(
        default=0, ge=0, le=3, description="Early views of each picture. Only with `stream` or `background`."
    )
    model: str | None = Field(default=None, description="The one that is served draws too.")
    action: Literal["auto", "generate"] = Field(default="auto", description="Every picture is a new one.")
    background: Literal["auto", "opaque"] = Field(default="auto", description="Pictures are opaque.")
    input_fidelity: Literal["low"] = Field(default="low", description="Read for compatibility.")
    moderation: Literal["auto"] = Field(default="auto", description="Read for compatibility: nothing is moderated.")
    output_compression: Literal[100] = Field(
        default=100, description="Read for compatibility: how much is compressed cannot be chosen."
    )
    quality: Literal["auto"] = Field(
        default="auto", description="There is one quality; `images.steps` sets how much work it is."
    )
    input_image_mask: Unsupported = None


class ResponseStreamOptions(RequestModel):
    """How a stream is sent."""

    include_obfuscation: bool = Field(default=False, description="Read for compatibility: events are not padded.")


class ResponseRequest(SamplingOptions):
    """A request for the next response of a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input": "Draw two pictures: a red circle, then a blue star.", "stream": True},
                {
                    "instructions": "Be brief.",
                    "input": [{"role": "user", "content": [{"type": "input_text", "text": "Draw a green square."}]}],
                    "tools": [{"type": "image_generation", "output_format": "webp"}],
                    "max_output_tokens": 100,
                    "store": False,
                },
            ]
        }
    )

    model: str | None = Field(default=None, description="Name of the model. By default the one that is served.")
    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[InputItem], Field(min_length=1), Tag("list")], TEXT_OR_LIST
    ] = Field(description="What is said: text of the user, or items, oldest first.")
    instructions: str | None = Field(
        default=None, description="What the model is told before all else, in this response alone."
    )
    previous_response_id: str | None = Field(
        default=None, description="The stored response that this one goes on from: its conversation comes before."
    )
    stream: bool = Field(default=False, description="Send server-sent events while the response is made.")
    stream_options: ResponseStreamOptions | None = Field(default=None, description="Only with `stream`.")
    background: bool = Field(
        default=False,
        description="Answer at once, and make the response however long it takes: see `GET` of its id. Needs `store`.",
    )
    store: bool = Field(
        default=True,
        description="Keep the response for a time, and finish it even if the caller leaves: see `GET` of its id.",
    )
    max_output_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        description="Tokens that the model may write. By default as many as the context holds.",
    )
    include: list[Includable] = Field(
        default=[],
        description="`message.output_text.logprobs` tells the log probability of every token of text. The others ask "
        "for what there is none of, or what is told anyway.",
    )
    top_logprobs: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Tell log probabilities of so many of the likeliest tokens too. With `include`.",
    )
    text: TextConfig = Field(default=TextConfig(), description="JSON is for answers of text alone.")
    tools: list[ImageGenerationTool] = Field(
        default=[], max_length=1, description="Says how pictures are drawn, as OpenAI's clients do."
    )
    tool_choice: Literal["none", "auto"] = Field(default="auto", description="`none` bars pictures.")
    max_tool_calls: int | None = Field(default=None, ge=0, description="Pictures at most.")
    images: ImageOptions = Field(
        default=ImageOptions(),
        description="How the pictures are drawn. Previews need `stream` or `background`.",
    )
    metadata: Metadata = Field(default={}, description="Notes of the caller's, which the response repeats.")
    truncation: Literal["disabled"] = Field(
        default="disabled", description="A conversation that does not fit into the context is refused."
    )
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = Field(
        default=None, description="There is one tier, which the response names: `default`."
    )

    parallel_tool_calls: bool = Field(default=True, description="Read for compatibility: changes nothing.")
    prompt_cache_key: str | None = Field(
        default=None, description="Read for compatibility: prefixes are cached without it."
    )
    prompt_cache_options: dict[str, Any] = Field(
        default={}, description="Read for compatibility: prefixes are cached without them."
    )
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = Field(
        default=None, description="Read for compatibility: prefixes are cached without it."
    )
    safety_identifier: str | None = Field(default=None, description="Read for compatibility: changes nothing.")
    user: str | None = Field(default=None, description="Read for compatibility: changes nothing.")

    context_management: Unsupported = None
    conversation: Unsupported = None
    moderation: Unsupported = None
    prompt: Unsupported = None
    reasoning: Unsupported = None
