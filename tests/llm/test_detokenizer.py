"""The incremental detokenizer against one decoding by real tokenizers."""

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.llm.detokenizer import IncrementalDetokenizer
from tests.llm.real_tokenizers import TOKENIZERS
from tests.untimed import untimed

every_tokenizer = pytest.mark.parametrize("tokenizer", [t() for t in TOKENIZERS.values()], ids=list(TOKENIZERS))
written = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(list(" \né€😀ab"))), max_size=30)


def stream(tokenizer: Tokenizer, ids: list[int], settle_before: frozenset[int] = frozenset()) -> list[str]:
    """What comes of each id; the rest last."""
    detokenizer = IncrementalDetokenizer(tokenizer)
    pieces = []
    for position, token_id in enumerate(ids):
        settled = detokenizer.settle() if position in settle_before else ""
        pieces.append(settled + detokenizer.feed(token_id))
    return [*pieces, detokenizer.finish()]


@every_tokenizer
@given(data=st.data())
@untimed
def test_any_ids_stream_to_what_one_decoding_gives(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() + 3), max_size=40))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


@every_tokenizer
@given(data=st.data())
@untimed
def test_bytes_and_spaces_in_any_order_stream_to_what_one_decoding_gives(
    tokenizer: Tokenizer, data: st.DataObject
) -> None:
    tokens = ["▁", "▁a", "a", "Ġ", "Ġa", "Ã", "©", "â", "Ĥ", "¬", "<s>", "<0x20>"]
    tokens += [f"<0x{byte:02X}>" for byte in (0x0A, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xFF)]
    present = [i for t in tokens if (i := tokenizer.token_to_id(t)) is not None]
    ids = data.draw(st.lists(st.sampled_from(present), max_size=20))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


@every_tokenizer
@given(data=st.data())
@untimed
def test_pictures_anywhere_in_written_text_lose_nothing(tokenizer: Tokenizer, data: st.DataObject) -> None:
    texts = data.draw(st.lists(written, max_size=4))
    ids = [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids]
    pictures = data.draw(st.frozensets(st.integers(0, len(ids))))
    assert "".join(stream(tokenizer, ids, pictures)) == tokenizer.decode(ids, skip_special_tokens=True)


@every_tokenizer
def test_a_character_cut_by_a_picture_comes_whole_after_it(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ab 𒀀 c", add_special_tokens=False).ids
    first = next(i for i in range(len(ids)) if tokenizer.decode(ids[: i + 1]).endswith("\ufffd"))
    detokenizer = IncrementalDetokenizer(tokenizer)
    before = "".join(detokenizer.feed(i) for i in ids[: first + 2]) + detokenizer.settle()
    after = "".join(detokenizer.feed(i) for i in ids[first + 2 :]) + detokenizer.finish()
    assert (before, after) == ("ab ", "𒀀 c")


@every_tokenizer
def test_a_complete_line_break_belongs_before_the_picture(tokenizer: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer)
    ids = tokenizer.encode("one.\n", add_special_tokens=False).ids
    assert "".join(detokenizer.feed(i) for i in ids) + detokenizer.settle() == "one.\n"


@every_tokenizer
def test_text_comes_with_the_token_that_completes_it(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the cat", add_special_tokens=False).ids
    pieces = stream(tokenizer, ids)
    assert pieces[-1] == ""
    assert all(pieces[:-1])


@every_tokenizer
def test_an_unfinished_character_at_the_end_becomes_a_replacement(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a€", add_special_tokens=False).ids[:-1]
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)
    assert stream(tokenizer, ids)[-1].endswith("\ufffd")


@every_tokenizer
def test_special_tokens_and_ids_without_a_token_are_not_text(tokenizer: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer)
    for token_id in (tokenizer.token_to_id("<dream_start>"), tokenizer.get_vocab_size() + 7):
        assert token_id is not None
        assert detokenizer.feed(token_id) == ""
    assert detokenizer.finish() == ""


@every_tokenizer
def test_bytes_that_are_no_text_are_not_searched_again_and_again(tokenizer: Tokenizer) -> None:
    broken = next(i for token in ("<0xFF>", "ÿ") if (i := tokenizer.token_to_id(token)) is not None)
    counting = Mock(wraps=tokenizer)
    detokenizer = IncrementalDetokenizer(counting)
    for _ in range(50):
        detokenizer.feed(broken)
    before = counting.decode.call_count

    assert detokenizer.settle() == ""
    assert counting.decode.call_count - before <= 4
