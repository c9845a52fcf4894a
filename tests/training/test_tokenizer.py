"""The tokenizer of the tiny model, learned on the world's sentences."""

import random
import re

import pytest
from transformers import PreTrainedTokenizerFast

from models.training.documents import INSTRUCTIONS
from models.training.tokenizer import CONTROL_TOKENS, TEXT_VOCABULARY, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(seed=0, num_dream_queries=8)


def test_nearly_every_word_of_the_world_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = random.Random(9)
    documents = [INSTRUCTIONS.sample(rng) for _ in range(300)]
    texts = [piece for document in documents for piece in document.pieces if isinstance(piece, str) and piece]
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
    words = sum(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts)
    assert tokens < 1.02 * words


@pytest.mark.parametrize("text", ["a red circle", "Zwölf größere Wörter", "赤い丸 🔴", "x\n\ty", "two  spaces"])
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_control_tokens_and_dream_queries_follow_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    names = [*CONTROL_TOKENS, *(f"<dream_query_{number}>" for number in range(8))]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(TEXT_VOCABULARY, TEXT_VOCABULARY + len(names)))
    assert len(tokenizer) == TEXT_VOCABULARY + len(names)


def test_the_same_seed_learns_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert train_tokenizer(seed=0, num_dream_queries=8).get_vocab() == tokenizer.get_vocab()
