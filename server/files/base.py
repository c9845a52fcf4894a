"""What a store of pictures is: encoded pictures by unguessable ids, kept for a set time."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

IMAGE_ID = re.compile(r"file_[A-Za-z0-9_-]{32}")
ID_BYTES = 24

MediaType = Literal["image/png", "image/jpeg", "image/webp"]
StorageErrorCode = Literal["storage_full", "storage_failed"]


class StorageError(Exception):
    """A picture could not be stored or read. The message tells callers nothing of the inside.

    Attributes:
        code: short and stable, for programs.
    """

    def __init__(self, code: StorageErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture from the store.

    Attributes:
        data: the encoded bytes.
        seconds_left: until it is kept no more; above 0.
    """

    data: bytes = field(repr=False)
    seconds_left: float

    @property
    def media_type(self) -> MediaType:
        """What the bytes are, by what they begin with: a store keeps nothing else of a picture.

        Raises:
            ValueError: they are no picture that this server draws.
        """
        if self.data.startswith(b"\x89PNG\r\n\x1a\n"):
            return "image/png"
        if self.data.startswith(b"\xff\xd8\xff"):
            return "image/jpeg"
        if self.data.startswith(b"RIFF") and self.data[8:12] == b"WEBP":
            return "image/webp"
        raise ValueError("the stored bytes are no picture")


class ImageStore(Protocol):
    """Keeps pictures. Everything is called on one event loop.

    Nobody is told the id of a picture before :meth:`put` has returned, so none is read half-written.
    """

    async def put(self, id: str, data: bytes) -> None:
        """Keep a picture from now on.

        Args:
            id: made by :func:`new_image_id`.
            data: the encoded bytes.

        Raises:
            StorageError: it is not kept.
        """

    async def get(self, id: str) -> StoredImage | None:
        """A picture, or None if there is none of this id, or none any more.

        Args:
            id: matches :data:`IMAGE_ID`.

        Raises:
            StorageError: it cannot be read now.
        """

    async def delete(self, ids: Sequence[str]) -> None:
        """Keep these no longer; those that are not there are no error.

        Args:
            ids: each matches :data:`IMAGE_ID`.

        Raises:
            StorageError: some of them may still be there.
        """


def new_image_id() -> str:
    """An id that nobody can guess: whoever has it may see the picture."""
    return f"file_{secrets.token_urlsafe(ID_BYTES)}"
