"""Pictures in Markdown: what is written can be read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.interleave.renderers.markdown import WrittenPicture, failed_markdown, picture_markdown, read_markdown
from tests.untimed import untimed

URL = "data:image/png;base64,iVBORw0KGgo+/A=="
STORED = "https://dream.example:8000/root/v1/files/images/file_Ab-9_x"
pieces = st.lists(st.one_of(st.text(st.characters(exclude_characters="!")), st.builds(WrittenPicture, st.just(URL))))


@untimed
@given(pieces)
def test_what_is_written_is_read_back(pieces: list[str | WrittenPicture]) -> None:
    written = "".join(
        piece if isinstance(piece, str) else picture_markdown(number, piece.url)
        for number, piece in enumerate(pieces, start=1)
    )
    read = read_markdown(written)

    assert [piece for piece in read if isinstance(piece, WrittenPicture)] == [
        piece for piece in pieces if isinstance(piece, WrittenPicture)
    ]
    assert "".join(piece for piece in read if isinstance(piece, str)) == "".join(
        piece for piece in pieces if isinstance(piece, str)
    )


def test_pictures_are_read_in_their_places() -> None:
    text = f"Look: {picture_markdown(1, URL)} and {picture_markdown(2, STORED)}{failed_markdown(3, 'timeout')}."

    assert read_markdown(text) == ["Look: ", WrittenPicture(URL), " and ", WrittenPicture(STORED), "."]


@pytest.mark.parametrize(
    "text",
    [
        f"![a cat]({URL})",
        "![image 1](https://example.com/cat.png)",
        "![image 1](/etc/passwd)",
        f"![image one]({URL})",
        f"[image 1]({URL})",
    ],
)
def test_other_pictures_stay_text(text: str) -> None:
    assert read_markdown(text) == [text]
