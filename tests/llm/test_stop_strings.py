"""Stop strings, whatever the pieces in which text comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.llm.stop_strings import StopStrings
from tests.untimed import untimed

few_letters = st.text("ab\n", max_size=25)


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition, letter by letter."""
    for end in range(1, len(text) + 1):
        starts = [end - len(s) for s in stops if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(pieces=st.lists(few_letters, max_size=8), stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
@untimed
def test_the_text_up_to_the_first_stop_string_comes_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(stops)
    text = "".join(matcher.feed(piece) for piece in pieces)
    matched = matcher.matched
    assert (text + matcher.finish(), matched) == cut("".join(pieces), stops)


@given(pieces=st.lists(few_letters, max_size=8), stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
@untimed
def test_just_what_may_become_a_stop_string_is_held_back(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(stops)
    text, given_out = "", 0
    for piece in pieces:
        text += piece
        given_out += len(matcher.feed(piece))
        if matcher.matched:
            break
        ends = [text[start:] for start in range(len(text))]
        open_ends = [end for end in ends if any(s.startswith(end) for s in stops)]
        assert text[given_out:] == max(open_ends, key=len, default="")
        assert matcher.held == len(text) - given_out


def test_the_beginning_of_a_stop_string_waits_and_comes_when_it_is_none() -> None:
    matcher = StopStrings(["STOP"])
    assert matcher.feed("a ST") == "a "
    assert matcher.held == 2
    assert matcher.feed("A") == "STA"
    assert matcher.held == 0


def test_text_after_a_stop_string_does_not_come() -> None:
    matcher = StopStrings(["STOP"])
    assert matcher.feed("aSTOPb") == "a"
    assert matcher.feed("c") == ""
    assert matcher.finish() == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopStrings(["a", ""])
