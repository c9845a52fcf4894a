"""The bytes of tokens: one after the other, they are the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.llm.prompt import plain_text_tokenizer
from server.llm.token_bytes import TokenBytes
from tests.llm.real_tokenizers import CONTROL, TOKENIZERS, byte_level
from tests.untimed import untimed

every_tokenizer = pytest.mark.parametrize("tokenizer", [t() for t in TOKENIZERS.values()], ids=list(TOKENIZERS))


@every_tokenizer
@given(
    text=st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(list(" \n\té€😀"))), max_size=30)
)
@untimed
def test_the_tokens_of_a_text_give_its_bytes(tokenizer: Tokenizer, text: str) -> None:
    ids = plain_text_tokenizer(tokenizer, frozenset()).encode(text, add_special_tokens=False).ids
    tokens = TokenBytes(tokenizer)
    pieces = [tokens.first(i) if place == 0 else tokens.within(i) for place, i in enumerate(ids)]
    assert b"".join(pieces) == tokenizer.decode(ids).encode()


@every_tokenizer
def test_a_control_token_gives_its_name(tokenizer: Tokenizer) -> None:
    tokens = TokenBytes(tokenizer)
    for name in CONTROL:
        token_id = tokenizer.token_to_id(name)
        assert token_id is not None
        assert tokens.within(token_id) == tokens.first(token_id) == name.encode()


@every_tokenizer
def test_an_id_without_a_token_has_no_bytes(tokenizer: Tokenizer) -> None:
    tokens = TokenBytes(tokenizer)
    assert tokens.within(100_000) == tokens.first(100_000) == b""


@every_tokenizer
def test_only_the_first_token_loses_a_space(tokenizer: Tokenizer) -> None:
    (*_, last) = plain_text_tokenizer(tokenizer, frozenset()).encode("cat the", add_special_tokens=False).ids
    tokens = TokenBytes(tokenizer)
    assert tokens.within(last).endswith(b"the")
    assert tokens.first(last) == tokenizer.decode([last]).encode()


def test_a_token_may_be_a_part_of_a_character() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("😀", add_special_tokens=False).ids
    tokens = TokenBytes(tokenizer)
    assert [tokens.within(i) for i in ids] == [tokens.first(i) for i in ids] == [b"\xf0", b"\x9f", b"\x98", b"\x80"]
