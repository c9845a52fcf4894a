"""Pictures in Markdown, written and read back."""

import re
from dataclasses import dataclass

URL = r"data:image/[^()\s]*|https?://[^()\s]*/v1/files/images/[^()\s]*"
WRITTEN = re.compile(rf"!\[image \d+(?: failed: \w+)?\]\(({URL})?\)")


@dataclass(frozen=True, slots=True)
class WrittenPicture:
    """A picture in a text.

    Attributes:
        url: where it is.
    """

    url: str


def picture_markdown(number: int, url: str) -> str:
    """A picture of an answer; ``number`` counts from 1."""
    return f"![image {number}]({url})"


def failed_markdown(number: int, code: str) -> str:
    """What stands for a picture that could not be drawn: readers of Markdown show the text of an image without URL."""
    return f"![image {number} failed: {code}]()"


def read_markdown(text: str) -> list[str | WrittenPicture]:
    """A text in pieces, with what :func:`picture_markdown` wrote read as pictures. Failed ones are left out."""
    pieces: list[str | WrittenPicture] = []
    end = 0
    for match in WRITTEN.finditer(text):
        pieces.append(text[end : match.start()])
        if match[1]:
            pieces.append(WrittenPicture(match[1]))
        end = match.end()
    pieces.append(text[end:])
    return [piece for piece in pieces if piece]
