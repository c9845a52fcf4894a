"""Request, response and stream of ``POST /v1/images/generations``: OpenAI's, and how this server draws.

OpenAI's types are those of its Python package: ``openai.types.image_generate_params``, ``images_response``,
``image_gen_partial_image_event`` and ``image_gen_completed_event``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from server.schema.errors import ErrorBody
from server.schema.interleaved import DrawingOptions, ImageFormat
from server.schema.left_out import LeftOut
from server.schema.sampling import Seed


def refuse_style(_: Any) -> None:
    """Say how to ask for a style instead."""
    raise PydanticCustomError("unsupported_parameter", "there are no styles to choose from: describe it in the prompt")


class ImagesRequest(DrawingOptions):
    """A request for pictures of one description."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a red circle"},
                {"prompt": "a blue star", "n": 2, "seed": 7, "response_format": "url", "output_format": "webp"},
                {"prompt": "a big green square", "stream": True, "partial_images": 2},
            ]
        }
    )

    prompt: str = Field(min_length=1, max_length=32_000, description="What the pictures show.")
    model: str | None = Field(default=None, description="Name of the model. By default the one that is served.")
    n: int = Field(default=1, ge=1, le=64, description="Pictures, each from noise of its own.")
    size: str = Field(
        default="auto",
        pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$",
        description="Width x height in pixels; `auto` is what the model was trained on.",
        examples=["512x512"],
    )
    response_format: Literal["b64_json", "url"] = Field(
        default="b64_json",
        description="Whether the answer holds the pictures themselves, or links to them that can be read for a time.",
    )
    output_format: ImageFormat = Field(default="png", description="How pictures are encoded.")
    stream: bool = Field(default=False, description="Send each picture as a server-sent event when it is finished.")
    partial_images: int = Field(
        default=0, ge=0, le=3, description="Early views of each picture. Only with `stream`; always in base64."
    )
    seed: Seed | None = Field(
        default=None, description="The same request with the same seed gives the same pictures. By default random."
    )

    background: Literal["auto", "opaque"] = Field(default="auto", description="Pictures are opaque.")
    moderation: Literal["auto"] = Field(
        default="auto", description="Read for compatibility: what is refused is the server's to say."
    )
    output_compression: Literal[100] = Field(
        default=100, description="Read for compatibility: how much is compressed cannot be chosen."
    )
    quality: Literal["auto", "standard"] = Field(
        default="auto", description="Read for compatibility: there is one quality; `steps` sets how much work it is."
    )
    safety_identifier: str | None = Field(default=None, description="Read for compatibility: changes nothing.")
    style: Annotated[None, BeforeValidator(refuse_style)] = Field(
        default=None, description="Not supported: must be left out."
    )
    user: str | None = Field(default=None, description="Read for compatibility: changes nothing.")


class InputTokensDetails(BaseModel):
    """What a request is made of."""

    text_tokens: int
    image_tokens: Literal[0] = 0


class OutputTokensDetails(BaseModel):
    """What was put into the context for pictures."""

    image_tokens: int
    text_tokens: Literal[0] = 0


class ImagesUsage(BaseModel):
    """What all pictures of a request cost together."""

    input_tokens: int = Field(description="Tokens of the prompt.")
    input_tokens_details: InputTokensDetails
    output_tokens: int = Field(description="Tokens put into the context for the dream that all pictures come from.")
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class GeneratedImage(BaseModel):
    """A picture: itself, or a link to it, as `response_format` says."""

    b64_json: Annotated[str | None, LeftOut] = Field(default=None, description="The encoded picture, in base64.")
    url: Annotated[str | None, LeftOut] = Field(default=None, description="Where the picture can be had for a time.")
    seed: int = Field(description="The seed that draws the same picture again.")


class ImagesResponse(BaseModel):
    """The pictures."""

    created: int = Field(description="Unix time in seconds.")
    background: Literal["opaque"] = "opaque"
    data: list[GeneratedImage]
    output_format: ImageFormat
    size: str = Field(description="Width x height in pixels.")
    usage: ImagesUsage


class ImageEvent(BaseModel):
    """What the events of a stream tell of a picture."""

    index: int = Field(description="Which of the pictures it is, from 0.")
    created_at: int = Field(description="Unix time in seconds.")
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    quality: Literal["auto"] = "auto"
    size: str = Field(description="Width x height of the finished picture in pixels.")


class PartialImageEvent(ImageEvent):
    """An early view of a picture."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    partial_image_index: int
    b64_json: str


class CompletedImageEvent(ImageEvent):
    """A finished picture."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    b64_json: Annotated[str | None, LeftOut] = None
    url: Annotated[str | None, LeftOut] = None
    seed: int
    usage: ImagesUsage = Field(description="Of the whole request: the same with each of its pictures.")


class ImageErrorEvent(BaseModel):
    """There will be no further picture."""

    type: Literal["error"] = "error"
    error: ErrorBody


ImagesEvent = Annotated[PartialImageEvent | CompletedImageEvent | ImageErrorEvent, Field(discriminator="type")]
