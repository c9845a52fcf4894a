"""Request and response of ``POST /v1/interleaved``: one request in, one document of text and pictures out."""

from base64 import b64decode
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from server.schema.content import ChatMessage, Content, RequestModel
from server.schema.left_out import LeftOut
from server.schema.sampling import MAX_COUNT, SamplingOptions, Seed

# Those of models.diffusion.job, which imports torch: the client reads this file and should not wait for that.
SchedulerName = Literal["ddpm", "ddim", "dpmpp_2m"]
ImageFormat = Literal["png", "webp", "jpeg"]


class DrawingOptions(RequestModel):
    """How a picture is drawn."""

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


class ImageOptions(DrawingOptions):
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
    format: ImageFormat = Field(default="png", description="How pictures are encoded.")
    previews: int = Field(default=0, ge=0, le=3, description="Early views of each picture, when streaming.")
    delivery: Literal["inline", "url"] = Field(
        default="inline",
        description="Whether the answer holds the finished pictures themselves, or links to them that can be read for "
        "a time. Previews are always in the answer.",
    )
    on_overload: Literal["wait", "skip", "fail"] = Field(
        default="wait",
        description="What becomes of a picture that the model asks for while too many others wait to be drawn: the "
        "answer waits for it, goes on without it, or ends with an error.",
    )
    feedback: Literal["image", "none"] | None = Field(
        default=None,
        description="Whether the model sees the pictures that it drew. By default as the model was trained.",
    )


class InterleavedRequest(SamplingOptions):
    """A request for a document. Give either ``input`` or ``messages``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input": "Draw two pictures: a red circle, then a blue star.", "stream": True},
                {
                    "messages": [{"role": "user", "content": "Draw a big green square."}],
                    "max_tokens": 200,
                    "seed": 7,
                    "images": {"max": 2, "steps": 20, "guidance_scale": 3.0, "format": "webp"},
                },
            ],
            "oneOf": [
                {"required": ["input"], "properties": {"messages": {"type": "null"}}},
                {"required": ["messages"], "properties": {"input": {"type": "null"}}},
            ],
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
    images: ImageOptions = Field(default=ImageOptions(), description="How the pictures are drawn.")
    store: bool = Field(
        default=False,
        description="Go on when the caller leaves, and keep the document for a while, so that it can be read again: "
        "see `GET /v1/interleaved/{id}`. Its id is all that anybody needs to read it.",
    )

    @model_validator(mode="after")
    def _one_of_input_and_messages(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give exactly one of input and messages")
        return self


class ImageContent(BaseModel):
    """A picture: itself, or a link to it, as `images.delivery` says."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["b64_json"]}, {"required": ["url"]}]})

    b64_json: Annotated[str | None, LeftOut] = Field(default=None, description="The encoded picture, in base64.")
    url: Annotated[str | None, LeftOut] = Field(default=None, description="Where the picture can be had for a time.")
    format: ImageFormat
    width: int
    height: int
    seed: int = Field(description="The seed that draws the same picture again, given the same context.")

    def decoded(self) -> bytes:
        """The encoded picture.

        Raises:
            ValueError: this is a link to it.
        """
        if self.b64_json is None:
            raise ValueError(f"the picture is at {self.url}")
        return b64decode(self.b64_json)


class PartError(BaseModel):
    """Why a picture is missing, or the rest of a document."""

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


class PendingImagePart(BaseModel):
    """The place of a picture that is being drawn."""

    type: Literal["image"] = "image"
    status: Literal["in_progress"] = "in_progress"


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
    """A document: its parts in order. A stored one that has not ended has those that there are."""

    id: str
    object: Literal["interleaved.document"] = "interleaved.document"
    created: int = Field(description="Unix time in seconds.")
    model: str
    status: Literal["in_progress", "completed", "failed", "cancelled"]
    parts: list[TextPart | ImagePart | FailedImagePart | PendingImagePart]
    finish_reason: Literal["stop", "length"] | None = Field(description="Why it ended; null unless it ended well.")
    error: PartError | None = Field(description="Why it could not be finished; null unless that is so.")
    usage: DocumentUsage | None = Field(description="What it cost; null until it has ended.")


class DeletedDocument(BaseModel):
    """A stored document that was forgotten."""

    id: str
    object: Literal["interleaved.document.deleted"] = "interleaved.document.deleted"
    deleted: Literal[True] = True
