"""What each piece of an answer adds to a chat message, for each place that pictures can have in it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from server.interleave.events import Image
from server.interleave.renderers.markdown import failed_markdown, picture_markdown
from server.schema.chat import ImageOutput
from server.schema.chat_completion import (
    AnswerContent,
    AnswerDelta,
    AnswerMessage,
    FailedPicture,
    Picture,
    PictureURL,
    PlacedFailedPicture,
    PlacedPicture,
    TextPiece,
)
from server.schema.interleaved import PartError


class Deltas(Protocol):
    """Makes the deltas of one answer. All text before a picture comes before it.

    Attributes:
        nothing: the content before the first piece.
    """

    nothing: AnswerContent

    def text(self, part: int, text: str) -> AnswerDelta:
        """More text of a part."""

    def picture(self, part: int, image: Image, url: str) -> AnswerDelta:
        """The picture that is a part, and where it is."""

    def failed_picture(self, part: int, error: PartError) -> AnswerDelta:
        """Why there is no picture."""


class BesideText:
    """Pictures in lists of their own, which tell their places. They come in any order."""

    nothing: AnswerContent = ""

    def __init__(self) -> None:
        self._characters: dict[int, int] = {}
        self._pictures = self._failed = 0

    def text(self, part: int, text: str) -> AnswerDelta:
        self._characters[part] = self._characters.get(part, 0) + len(text)
        return AnswerDelta(content=text)

    def picture(self, part: int, image: Image, url: str) -> AnswerDelta:
        picture = picture_of(image, url, self._pictures)
        self._pictures += 1
        return AnswerDelta(images=[PlacedPicture(**dict(picture), part=part, text_offset=self._offset(part))])

    def failed_picture(self, part: int, error: PartError) -> AnswerDelta:
        failed = PlacedFailedPicture(index=self._failed, error=error, part=part, text_offset=self._offset(part))
        self._failed += 1
        return AnswerDelta(failed_images=[failed])

    def _offset(self, part: int) -> int:
        return sum(count for text, count in self._characters.items() if text < part)


class InContent:
    """Text and pictures as the parts of the content, in their order."""

    nothing: AnswerContent = []

    def text(self, part: int, text: str) -> AnswerDelta:
        return AnswerDelta(content=[TextPiece(index=part, text=text)])

    def picture(self, part: int, image: Image, url: str) -> AnswerDelta:
        return AnswerDelta(content=[picture_of(image, url, part)])

    def failed_picture(self, part: int, error: PartError) -> AnswerDelta:
        return AnswerDelta(content=[FailedPicture(index=part, error=error)])


class InMarkdown:
    """Pictures in the text, in their order, for front ends that show Markdown and know nothing else."""

    nothing: AnswerContent = ""

    def __init__(self) -> None:
        self._pictures = 0

    def text(self, part: int, text: str) -> AnswerDelta:
        return AnswerDelta(content=text)

    def picture(self, part: int, image: Image, url: str) -> AnswerDelta:
        self._pictures += 1
        return AnswerDelta(content=picture_markdown(self._pictures, url))

    def failed_picture(self, part: int, error: PartError) -> AnswerDelta:
        self._pictures += 1
        return AnswerDelta(content=failed_markdown(self._pictures, error.code))


DELTAS: Mapping[ImageOutput, type[BesideText] | type[InContent] | type[InMarkdown]] = MappingProxyType(
    {"images": BesideText, "content": InContent, "markdown": InMarkdown}
)


def picture_of(image: Image, url: str, index: int) -> Picture:
    """A picture, and where it is."""
    return Picture(image_url=PictureURL(url=url), index=index, width=image.width, height=image.height, seed=image.seed)


def message_of(nothing: AnswerContent, deltas: Sequence[AnswerDelta]) -> AnswerMessage:
    """The message that deltas add up to."""
    text = "".join(delta.content for delta in deltas if isinstance(delta.content, str))
    parts = [part for delta in deltas if isinstance(delta.content, list) for part in delta.content]
    images = [image for delta in deltas for image in delta.images or ()]
    failed = [image for delta in deltas for image in delta.failed_images or ()]
    content = text if isinstance(nothing, str) else parts
    return AnswerMessage(content=content, images=images or None, failed_images=failed or None)
