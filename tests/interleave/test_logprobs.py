"""Log probabilities line up with the text, however it is cut, held back and ended."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.interleave.document import AnswerText
from server.interleave.events import DocumentEvent, TextDelta, TokenLogprob
from tests.interleave.answers import Answer, answer
from tests.interleave.test_seams import every_tokenizer, feedbacks, scripts
from tests.llm.real_tokenizers import byte_level
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS
from tests.scripted.tokenizer import byte_tokenizer
from tests.untimed import untimed


def deltas(events: Sequence[DocumentEvent]) -> list[TextDelta]:
    return [event for event in events if isinstance(event, TextDelta)]


def tokens(made: Answer) -> list[TokenLogprob]:
    """All tokens that were told, in order of the events."""
    return [token for delta in deltas(made.events) for token in delta.logprobs]


def texts(made: Answer) -> list[tuple[int, str, list[str]]]:
    """Part, text and tokens of each delta."""
    return [(delta.part, delta.text, [token.token for token in delta.logprobs]) for delta in deltas(made.events)]


@every_tokenizer
@given(data=st.data(), feedback=feedbacks)
@untimed
async def test_the_tokens_of_an_answer_are_told_once_each_and_in_order(
    tokenizer: Tokenizer, data: st.DataObject, feedback: str
) -> None:
    script = data.draw(scripts(tokenizer))
    engine = ScriptedEngine(script.turns, tokenizer=tokenizer)
    made = await answer(engine, logprobs=0, images={"feedback": feedback})
    told = tokens(made)
    # The last tokens may have no text: the first space of a text alone, which decoders of Llama's kind leave out.
    assert [token.logprob for token in told] == [-token_id / 1024 for token_id in script.ids[: len(told)]]
    assert b"".join(token.bytes for token in told) == made.text.encode()
    assert "".join(part.text for part in made.document.parts if isinstance(part, AnswerText)) == made.text


@given(
    data=st.data(),
    feedback=feedbacks,
    stops=st.lists(st.text(" \nab", min_size=1, max_size=4), min_size=1, max_size=3),
)
@untimed
async def test_a_token_is_told_with_the_delta_in_which_its_text_begins(
    data: st.DataObject, feedback: str, stops: list[str]
) -> None:
    script = data.draw(scripts(byte_level(), st.sampled_from(" \nab")))
    engine = ScriptedEngine(script.turns, tokenizer=byte_level())
    made = await answer(engine, logprobs=0, stop=tuple(stops), images={"feedback": feedback})
    text, told = "", b""
    for delta in sorted(deltas(made.events), key=lambda delta: (delta.part, delta.sequence)):
        for token in delta.logprobs:
            assert len(text) <= len(told) < len(text) + len(delta.text)
            told += token.bytes
        text += delta.text
        assert told.startswith(text.encode())


async def test_tokens_wait_with_the_text_that_may_begin_a_stop_string() -> None:
    made = await answer(ScriptedEngine([["xaaac", EOS]]), logprobs=0, stop=("aab",))
    assert texts(made) == [(0, "x", ["x"]), (0, "a", ["a"]), (0, "aac", ["a", "a", "c"])]


async def test_tokens_cut_away_by_a_stop_string_are_not_told() -> None:
    made = await answer(ScriptedEngine([["xaaab", EOS]]), logprobs=0, stop=("aab",))
    assert made.text == "xa"
    assert [token.token for token in tokens(made)] == ["x", "a"]


async def test_a_token_cut_in_two_by_a_stop_string_is_told() -> None:
    tokenizer = byte_level()
    token_id = tokenizer.token_to_id("the")
    assert token_id is not None
    made = await answer(ScriptedEngine([[token_id, EOS]], tokenizer=tokenizer), logprobs=0, stop=("he",))
    assert texts(made) == [(0, "t", ["the"])]


async def test_tokens_held_back_over_a_picture_go_out_with_the_earlier_part() -> None:
    engine = ScriptedEngine([["xab", DREAM], ["a", EOS]])
    made = await answer(engine, ScriptedPool(), logprobs=0, stop=("abc",))
    assert texts(made) == [(0, "x", ["x"]), (0, "ab", ["a", "b"]), (2, "a", ["a"])]


async def test_a_character_of_several_tokens_brings_all_of_them() -> None:
    made = await answer(ScriptedEngine([["a😀", EOS]]), logprobs=0)
    assert [(token.token, token.bytes) for token in tokens(made)] == [
        ("a", b"a"),
        *(("\ufffd", bytes([byte])) for byte in "😀".encode()),
    ]
    assert deltas(made.events)[-1].text.endswith("😀")


async def test_alternatives_are_told_likeliest_first() -> None:
    tokenizer = byte_tokenizer()
    made = await answer(ScriptedEngine([["ab", EOS]], tokenizer=tokenizer), logprobs=2)
    a, b, c = (tokenizer.token_to_id(letter) for letter in "abc")
    assert tokens(made) == [
        TokenLogprob("a", b"a", -a / 1024, (TokenLogprob("a", b"a", -a / 1024), TokenLogprob("b", b"b", -b / 1024))),
        TokenLogprob("b", b"b", -b / 1024, (TokenLogprob("b", b"b", -b / 1024), TokenLogprob("c", b"c", -c / 1024))),
    ]


async def test_neither_dream_tokens_nor_the_end_are_told() -> None:
    made = await answer(ScriptedEngine([["a", DREAM], ["b", DREAM], [EOS]]), ScriptedPool(), logprobs=0)
    assert [token.token for token in tokens(made)] == ["a", "b"]
    assert made.document.usage.completion_tokens == 5


@pytest.mark.parametrize("logprobs", [None, 0])
async def test_the_document_keeps_what_its_deltas_told(logprobs: int | None) -> None:
    made = await answer(ScriptedEngine([["ab", DREAM], ["c", EOS]]), ScriptedPool(), logprobs=logprobs)
    parts = [part for part in made.document.parts if isinstance(part, AnswerText)]
    told = [[token.token for token in part.logprobs] for part in parts]
    assert told == ([[], []] if logprobs is None else [["a", "b"], ["c"]])
