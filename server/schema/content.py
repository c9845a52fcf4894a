"""What a caller says: text, pictures, messages, in the content parts of OpenAI's chat or responses surface."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, GetJsonSchemaHandler, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

ABOUT_A_FIELD = ("title", "description", "default", "examples")


class RequestModel(BaseModel):
    """Base of what callers send: unknown fields are errors, null is the default, a number in quotes is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in body.items() if value is not None or name not in optional}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        described = handler.resolve_ref_schema(schema)
        required = described.get("required", ())
        for name, field in described["properties"].items():
            if name not in required:
                described["properties"][name] = or_null(field)
        return schema


def or_null(field: JsonSchemaValue) -> JsonSchemaValue:
    """The JSON schema of a field, such that it may be null too."""
    null = {"type": "null"}
    if field.get("type") == "null" or null in field.get("anyOf", ()):
        return field
    about = {key: field[key] for key in ABOUT_A_FIELD if key in field}
    kinds = {key: value for key, value in field.items() if key not in about}
    return {"anyOf": [kinds, null], **about} if kinds else field


def text_or_list(value: Any) -> str | None:
    """The member of a union of text and a list that a value can only have been meant for."""
    return "text" if isinstance(value, str) else "list" if isinstance(value, list | tuple) else None


# Chosen by the kind of value, not by trial, so that an error in a list is not reported as "not a text".
TEXT_OR_LIST = Discriminator(
    text_or_list, custom_error_type="content_type", custom_error_message="Input should be a text or a list"
)


class TextContent(RequestModel):
    """A piece of text."""

    type: Literal["text", "input_text"]
    text: str


ImageSource = Annotated[
    str,
    Field(
        description="A picture as a data URL: PNG, JPEG, WebP or GIF (its first frame), in base64. Or the URL of a "
        "picture that this server drew and still has. Or an https URL, if the server fetches pictures from its host.",
        examples=[
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
        ],
    ),
]


Detail = Annotated[
    Literal["auto", "low", "high", "original"],
    Field(description="Read for compatibility: this model sees every picture at one resolution."),
]


class ImageURL(RequestModel):
    """Where a picture is."""

    url: ImageSource
    detail: Detail = "auto"


class ImageURLContent(RequestModel):
    """A picture, as OpenAI's chat completions write it."""

    type: Literal["image_url"]
    image_url: ImageURL


class InputImageContent(RequestModel):
    """A picture, as OpenAI's responses write it."""

    type: Literal["input_image"]
    image_url: ImageSource
    detail: Detail = "auto"


ContentPart = Annotated[TextContent | ImageURLContent | InputImageContent, Field(discriminator="type")]

Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[ContentPart], Field(min_length=1), Tag("list")], TEXT_OR_LIST
]


class ChatMessage(RequestModel):
    """One turn of the conversation so far."""

    role: Literal["system", "user", "assistant"]
    content: Content
