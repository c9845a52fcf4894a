"""A conversation, as the prompt is built from it."""

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Literal

from PIL.Image import Image as PILImage

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of a message, as the caller wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture of a message.

    Attributes:
        pixels: RGB.
        id: :func:`pixels_digest` of the pixels; equal ids mean equal pixels.
    """

    pixels: PILImage = field(repr=False)
    id: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation. A picture in an assistant's turn is one that the model drew."""

    role: Role
    parts: tuple[TextPart | ImagePart, ...]


def pixels_digest(pixels: PILImage) -> str:
    """SHA-256 of the size and the RGB pixels of a picture. Takes time: not for the event loop."""
    digest = hashlib.sha256(struct.pack("<II", *pixels.size))
    digest.update(pixels.tobytes())
    return digest.hexdigest()
