"""The seams do not show: an answer of many engine requests reads as if it were of one."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.interleave.document import AnswerImage, AnswerText
from server.llm.prompt import plain_text_tokenizer
from tests.interleave.answers import answer
from tests.llm.real_tokenizers import TOKENIZERS
from tests.llm.test_stop_strings import cut
from tests.scripted.engine import ScriptedEngine, TokenItem
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS
from tests.untimed import untimed

every_tokenizer = pytest.mark.parametrize("tokenizer", [t() for t in TOKENIZERS.values()], ids=list(TOKENIZERS))
feedbacks = st.sampled_from(["image", "none"])

letters = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), st.sampled_from(list(" \nabé€😀"))
)


@dataclass(frozen=True)
class Script:
    """Sampled text with pictures in it.

    Attributes:
        ids: all text ids.
        pictures: how many of them come before each picture.
        turns: the same as a script for the engine, in random chunks.
    """

    ids: list[int]
    pictures: list[int]
    turns: list[list[TokenItem]]


def chunks(ids: Sequence[int], cuts: set[int], first: int) -> list[TokenItem]:
    """Ids in chunks; ``cuts`` are places in the whole answer, of which ``first`` is the place of the first id."""
    places = [0, *(c - first for c in sorted(cuts) if first < c < first + len(ids)), len(ids)]
    return [tuple(ids[a:b]) for a, b in itertools.pairwise(places) if a < b]


@st.composite
def scripts(draw: st.DrawFn, tokenizer: Tokenizer, alphabet: st.SearchStrategy[str] = letters) -> Script:
    text = draw(st.text(alphabet, max_size=25))
    ids = plain_text_tokenizer(tokenizer, frozenset()).encode(text, add_special_tokens=False).ids
    places = st.integers(0, len(ids))
    pictures = sorted(draw(st.lists(places, max_size=3)))
    cuts = draw(st.sets(places))
    bounds = [0, *pictures, len(ids)]
    turns = [chunks(ids[a:b], cuts, a) for a, b in itertools.pairwise(bounds)]
    return Script(ids, pictures, [*([*turn, DREAM] for turn in turns[:-1]), [*turns[-1], EOS]])


@every_tokenizer
@given(data=st.data(), feedback=feedbacks)
@untimed
async def test_streamed_text_is_one_decoding_of_all_text_ids(
    tokenizer: Tokenizer, data: st.DataObject, feedback: str
) -> None:
    script = data.draw(scripts(tokenizer))
    made = await answer(ScriptedEngine(script.turns, tokenizer=tokenizer), images={"feedback": feedback})
    assert made.text == tokenizer.decode(script.ids, skip_special_tokens=True)


@every_tokenizer
@given(data=st.data(), feedback=feedbacks)
@untimed
async def test_a_picture_stands_behind_all_characters_that_were_complete_before_it(
    tokenizer: Tokenizer, data: st.DataObject, feedback: str
) -> None:
    script = data.draw(scripts(tokenizer))
    made = await answer(ScriptedEngine(script.turns, tokenizer=tokenizer), images={"feedback": feedback})
    before, places = "", []
    for part in made.document.parts:
        if isinstance(part, AnswerText):
            before += part.text
        else:
            places.append(before)
    whole = tokenizer.decode(script.ids)
    for place, count in zip(places, script.pictures, strict=True):
        assert whole.startswith(place)
        assert place == complete(tokenizer, script.ids[:count])


def complete(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Text of the longest beginning of the ids that ends with a whole character."""
    while (text := tokenizer.decode(ids)).endswith("\ufffd"):
        ids = ids[:-1]
    return text


@every_tokenizer
@given(
    data=st.data(),
    feedback=feedbacks,
    stops=st.lists(st.text(" \nab€", min_size=1, max_size=4), min_size=1, max_size=3),
)
@untimed
async def test_stop_strings_are_found_wherever_pictures_and_chunks_cut_the_text(
    tokenizer: Tokenizer, data: st.DataObject, feedback: str, stops: list[str]
) -> None:
    script = data.draw(scripts(tokenizer, st.sampled_from(" \nab€")))
    engine = ScriptedEngine(script.turns, tokenizer=tokenizer)
    pool = ScriptedPool()
    made = await answer(engine, pool, stop=tuple(stops), images={"feedback": feedback})
    text, matched = cut(tokenizer.decode(script.ids, skip_special_tokens=True), stops)
    assert made.text == text
    assert made.document.finish_reason == "stop"
    drawn = sum(isinstance(part, AnswerImage) for part in made.document.parts)
    assert drawn == len(pool.jobs) <= len(script.pictures)
    assert matched or drawn == len(script.pictures)


@every_tokenizer
@given(data=st.data(), limit=st.integers(1, 30))
@untimed
async def test_max_tokens_cut_the_answer_where_one_request_would_have_been_cut(
    tokenizer: Tokenizer, data: st.DataObject, limit: int
) -> None:
    script = data.draw(scripts(tokenizer))
    made = await answer(ScriptedEngine(script.turns, tokenizer=tokenizer), max_tokens=limit)
    sampled: list[int | None] = list(script.ids)
    for number, place in enumerate(script.pictures):
        sampled.insert(place + number, None)  # a dream token
    within = [token_id for token_id in sampled[:limit] if token_id is not None]
    text = tokenizer.decode(within, skip_special_tokens=True)
    if text.endswith("\ufffd") and None in sampled[:limit]:
        # Cut within a character: a decoder with byte fallback spoils its neighbours too, unless a picture settled them.
        assert made.text.endswith("\ufffd")
    else:
        assert made.text == text
    assert made.document.usage.completion_tokens == min(limit, len(sampled) + 1)
    assert made.document.finish_reason == ("length" if len(sampled) >= limit else "stop")
