"""Chat messages read: earlier answers get their pictures back where the model drew them."""

import asyncio

from server.api.intake import Conversation, field_of
from server.interleave.renderers.markdown import WrittenPicture, read_markdown
from server.llm.conversation import Message
from server.schema.chat import (
    AnswerFailedImage,
    AnswerImage,
    AnswerRefusal,
    AnswerText,
    AssistantMessage,
    ChatMessage,
)
from server.schema.content import ContentPart, ImageURL, ImageURLContent, TextContent
from server.schema.errors import invalid_value

Placed = list[tuple[ContentPart, str]]
"""Parts of a message, each with the name of the field that it is read from."""


async def read_messages(messages: list[ChatMessage], conversation: Conversation, markdown: bool) -> tuple[Message, ...]:
    """The conversation, its pictures decoded.

    Args:
        messages: as the caller wrote them.
        conversation: reads their parts.
        markdown: whether pictures may stand in the text of earlier answers.

    Raises:
        APIError: there are too many parts, or a picture cannot be read.
    """
    read = []
    for i, message in enumerate(messages):
        param = f"messages[{i}]"
        if isinstance(message, AssistantMessage):
            # Searching megabytes of base64 for pictures takes longer than an event loop may stand still.
            placed = await asyncio.to_thread(answer_parts, message, param, markdown)
            read.append(Message("assistant", await conversation.read_parts(placed, param)))
        else:
            role = "system" if message.role == "developer" else message.role
            read.append(Message(role, await conversation.read(message.content, f"{param}.content")))
    return tuple(read)


def answer_parts(message: AssistantMessage, param: str, markdown: bool) -> Placed:
    """Text and pictures of an earlier answer in their order. For the arguments see :func:`read_messages`.

    Raises:
        APIError: there is nothing, or there are pictures both in the content and beside it.
    """
    parts = content_parts(message, f"{param}.content", markdown)
    if not message.images:
        return parts
    if any(isinstance(part, ImageURLContent) for part, _ in parts):
        raise invalid_value(f"{param}.images", "the content holds pictures already; give them in one of the two")
    text = "".join(part.text for part, _ in parts if isinstance(part, TextContent))
    return with_images(text, message.images, param)


def content_parts(message: AssistantMessage, param: str, markdown: bool) -> Placed:
    """What the content of an earlier answer holds.

    Raises:
        APIError: there is none, and nothing else either.
    """
    content = message.refusal if message.content is None else message.content
    if content is None and not message.images:
        raise invalid_value(param, "the message says nothing", "missing_required_parameter")
    if isinstance(content, list):
        return [
            (placed, field_of(placed, f"{param}[{i}]")) for i, part in enumerate(content) for placed in listed(part)
        ]
    return [(part, param) for part in (written_parts(content or "") if markdown else [text_part(content or "")])]


def listed(part: AnswerText | AnswerRefusal | AnswerImage | AnswerFailedImage) -> list[ContentPart]:
    """A part of the content of an earlier answer, as any message has it; nothing for a picture that failed."""
    match part:
        case AnswerText(text=text) | AnswerRefusal(refusal=text):
            return [text_part(text)]
        case AnswerImage():
            return [image_part(part.image_url)]
        case AnswerFailedImage():
            return []


def written_parts(text: str) -> list[ContentPart]:
    """A text in which pictures are written as Markdown."""
    return [
        image_part(ImageURL(url=piece.url)) if isinstance(piece, WrittenPicture) else text_part(piece)
        for piece in read_markdown(text)
    ]


def with_images(text: str, images: list[AnswerImage], param: str) -> Placed:
    """A text with pictures at their places: all that is after the end, or has none, is at the end."""
    numbered = [(len(text) if image.text_offset is None else image.text_offset, i) for i, image in enumerate(images)]
    placed: Placed = []
    begin = 0
    for offset, i in sorted(numbered, key=lambda place: (place[0], images[place[1]].part or 0)):
        if text[begin:offset]:
            placed.append((text_part(text[begin:offset]), f"{param}.content"))
        placed.append((image_part(images[i].image_url), f"{param}.images[{i}].image_url"))
        begin = max(begin, offset)
    if text[begin:]:
        placed.append((text_part(text[begin:]), f"{param}.content"))
    return placed


def text_part(text: str) -> TextContent:
    """A text."""
    return TextContent(type="text", text=text)


def image_part(url: ImageURL) -> ImageURLContent:
    """A picture."""
    return ImageURLContent(type="image_url", image_url=url)
