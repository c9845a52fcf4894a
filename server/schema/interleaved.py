"""Request and response of ``POST /v1/interleaved``: one request in, one document of text and pictures out."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator

from server.schema.content import TEXT_OR_LIST, ChatMessage, Content, RequestModel

# Those of models.diffusion.job, which imports torch: the client reads this file and should not wait for that.
SchedulerName = Literal["ddpm", "ddim", "dpmpp_2m"]
ImageFormat = Literal["png", "webp", "jpeg"]
MAX_SEED = 2**63 - 1
MAX_COUNT = 2**31 - 1  # the most that a 32-bit integer of a kernel holds
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    Annotated[StopString, Tag("text")] | Annotated[list[StopString], Field(max_length=16), Tag("list")], TEXT_OR_LIST
]


class ImageOptions(RequestModel):
    """How the pictures of an answer are drawn."""

    max: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Pictures at most; 0 for none. By default the most that the server allows.",
    )
    size: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$",
        description="Width x height in pixels. By default what the model was trained on.",
        examples=["512x512"],
    )
    steps: int | None = Field(
        default=None, ge=1, le=1000, description="Denoising steps. By default what the checkpoint recommends."
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=50,
        allow_inf_nan=False,
        description="How closely a picture follows the text; 1 or less draws without guidance. "
        "By default what the checkpoint recommends.",
    )
    negative_prompt: str | None = Field(
        default=None, max_length=4000, description="What the pictures should keep away from.", examples=["blurry"]
    )
    scheduler: SchedulerName | None = Field(
        default=None, description="The sampler. By default what the checkpoint recommends."
    )
    seed: Seed | None = Field(
        default=None, description="Noise of the pictures. By default drawn from the request's seed."
    )
    format: ImageFormat = Field(default="png", description="How pictures are encoded.")
    previews: int = Field(default=0, ge=0, le=3, description="Early views of each picture, when streaming.")
    feedback: Literal["image", "none"] | None = Field(
        default=None,
        description="Whether the model sees the pictures that it drew. By default as the model was trained.",
    )


class InterleavedRequest(RequestModel):
    """A request for a document. Give either ``input`` or ``messages``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input": "Draw a red circle and then a blue star.", "stream": True},
                {
                    "messages": [{"role": "user", "content": "Draw a big green square."}],
                    "max_tokens": 200,
                    "seed": 7,
                    "images": {"max": 2, "steps": 20, "guidance_scale": 3.0, "format": "webp"},
                },
            ]
        }
    )

    model: str | None = Field(default=None, description="Name of the model. By default the one that is served.")
    input: Content | None = Field(default=None, description="One user turn: text, or parts.")
    messages: list[ChatMessage] | None = Field(default=None, min_length=1, description="A conversation.")
    stream: bool = Field(default=False, description="Send server-sent events while the document is made.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        description="Tokens that the model may write. By default as many as the context holds.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, allow_inf_nan=False, description="0 is greedy. By default the checkpoint's, else 1."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="Nucleus mass. By default the checkpoint's, else 1."
    )
    top_k: int | None = Field(
        default=None,
        ge=0,
        le=MAX_COUNT,
        description="Keep the k likeliest tokens; 0 keeps all. By default the checkpoint's, else 0.",
    )
    seed: Seed | None = Field(default=None, description="The same request with the same seed gives the same document.")
    stop: Stop | None = Field(default=None, description="Text that ends the document; it is not part of it.")
    images: ImageOptions = Field(default=ImageOptions(), description="How the pictures are drawn.")

    @model_validator(mode="after")
    def _one_of_input_and_messages(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give exactly one of input and messages")
        return self


class ImageContent(BaseModel):
    """A picture."""

    b64_json: str = Field(description="The encoded picture, in base64.")
    format: ImageFormat
    width: int
    height: int
    seed: int = Field(description="The seed that draws the same picture again, given the same context.")


class PartError(BaseModel):
    """Why a picture is missing."""

    code: str
    message: str


class TextPart(BaseModel):
    """A stretch of text."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(BaseModel):
    """A picture in its place."""

    type: Literal["image"] = "image"
    image: ImageContent


class FailedImagePart(BaseModel):
    """The place of a picture that could not be drawn."""

    type: Literal["image"] = "image"
    error: PartError


class DocumentUsage(BaseModel):
    """What a document cost."""

    prompt_tokens: int = Field(description="Tokens of the request, the patches of its pictures included.")
    completion_tokens: int = Field(description="Tokens that the model sampled.")
    image_tokens: int = Field(description="Tokens put into the context for pictures of the answer.")
    total_tokens: int
    images: int = Field(description="Pictures drawn.")
    denoising_steps: int
    length_limit: Literal["max_tokens", "context"] | None = Field(
        description="What ended a document whose finish_reason is length."
    )


class InterleavedResponse(BaseModel):
    """A document: its parts in order."""

    id: str
    object: Literal["interleaved.document"] = "interleaved.document"
    created: int = Field(description="Unix time in seconds.")
    model: str
    parts: list[TextPart | ImagePart | FailedImagePart]
    finish_reason: Literal["stop", "length"]
    usage: DocumentUsage
