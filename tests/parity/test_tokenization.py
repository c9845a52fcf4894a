"""The tokenizer and the templates against the official ones on all recorded texts, and against sentencepiece on any."""

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from models.dreamllm import DreamLLMConfig, DreamLLMProcessor
from models.dreamllm.chat_template import SYSTEM_PROMPT
from server.llm.conversation import ImagePart, Message, TextPart
from server.llm.detokenizer import IncrementalDetokenizer
from tests.parity.converted import CHECKPOINT, Checkpoint, picture
from tests.parity.difference_report import DifferenceReport
from tests.parity.diffusion.official import OFFICIAL
from tests.untimed import untimed

written = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(list("  \n▁€😀abth"))), max_size=30
)


@cache
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((OFFICIAL / "golden" / "tokenization.json").read_text())
    return content


def recorded_texts() -> list[dict[str, Any]]:
    return [*recorded()["texts"], *recorded()["more_texts"]]


@pytest.mark.parametrize("text", recorded_texts(), ids=lambda text: repr(text["text"][:24]))
def test_a_recorded_text_is_encoded_and_decoded_as_by_the_official_tokenizer(
    processor: DreamLLMProcessor, report: DifferenceReport, text: dict[str, Any]
) -> None:
    tokenizer = processor.tokenizer
    ids = tokenizer(text["text"])["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == text["tokens"]
    assert tokenizer.decode(ids) == text["decode"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text["decode_skip_special_tokens"]
    report.compare("tokenization", ids, text["input_ids"], atol=0)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_padded_as_by_the_official_tokenizer(processor: DreamLLMProcessor, side: str) -> None:
    batch = recorded()["padded_batches"][side]
    encoded = processor.tokenizer(batch["texts"], padding=True, padding_side=side)
    assert encoded["input_ids"] == batch["input_ids"]
    assert encoded["attention_mask"] == batch["attention_mask"]


def test_special_tokens_have_the_ids_of_the_checkpoint(processor: DreamLLMProcessor) -> None:
    ids = json.loads((CHECKPOINT / "added_tokens.json").read_text())
    assert {token: processor.tokenizer.convert_tokens_to_ids(token) for token in ids} == ids
    assert processor.tokenizer.pad_token_id == ids["[PAD]"]


def test_the_queries_come_after_the_official_vocabulary(
    processor: DreamLLMProcessor, checkpoint_only: Checkpoint
) -> None:
    config = checkpoint_only.config
    names = [f"<dream_query_{i}>" for i in range(config.num_dream_queries)]
    first = recorded()["len_tokenizer"]
    assert processor.tokenizer.convert_tokens_to_ids(names) == list(range(first, first + len(names)))
    assert config.dream_query_token_ids == list(range(first, first + len(names)))


@given(text=written)
@untimed
def test_any_text_is_encoded_as_by_sentencepiece(checkpoint_only: Checkpoint, text: str) -> None:
    reference = SentencePieceProcessor(model_file=str(CHECKPOINT / "tokenizer.model"))
    assert checkpoint_only.tokenizer.encode(text, add_special_tokens=False).ids == reference.encode(text)


@given(ids=st.lists(st.one_of(st.integers(0, 420), st.sampled_from([358, 260, 13, 198, 159, 401, 2])), max_size=30))
@untimed
def test_any_ids_stream_to_what_one_decoding_gives(checkpoint_only: Checkpoint, ids: list[int]) -> None:
    tokenizer: Tokenizer = checkpoint_only.tokenizer
    detokenizer = IncrementalDetokenizer(tokenizer)
    streamed = "".join(detokenizer.feed(token_id) for token_id in ids) + detokenizer.finish()
    assert streamed == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_vqa_prompt_is_that_of_the_official_evaluation(checkpoint_only: Checkpoint) -> None:
    official = recorded()["more_texts"][0]
    system = Message("system", (TextPart(f" {SYSTEM_PROMPT}"),))
    question = TextPart("What is the dog doing in the image?")
    prompt = checkpoint_only.prompts.build([system, Message("user", (ImagePart(picture(0), "1"), question))])
    assert expanded(checkpoint_only.config, prompt.token_ids) == official["input_ids"]


def test_a_conversation_is_that_of_the_official_template(checkpoint_only: Checkpoint) -> None:
    official = recorded()["more_texts"][1]
    turns = [
        Message("user", (TextPart("What is the dog doing in the image?"),)),
        Message("assistant", (TextPart("Two birds."),)),
        Message("user", (TextPart("Thanks"),)),
    ]
    assert list(checkpoint_only.prompts.build(turns).token_ids) == official["input_ids"]


def test_the_processor_writes_the_same_prompts(processor: DreamLLMProcessor) -> None:
    vqa, conversation = recorded()["more_texts"][:2]
    question = {"type": "text", "text": "What is the dog doing in the image?"}
    system = {"role": "system", "content": f" {SYSTEM_PROMPT}"}
    text = processor.apply_chat_template(
        [system, {"role": "user", "content": [{"type": "image"}, question]}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=text, images=[picture(0)], add_special_tokens=False)
    assert inputs["input_ids"][0] == vqa["input_ids"]
    turns = [
        {"role": "user", "content": "What is the dog doing in the image?"},
        {"role": "assistant", "content": "Two birds."},
        {"role": "user", "content": "Thanks"},
    ]
    text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert text == "<s>" + conversation["text"]
    assert processor.tokenizer(text, add_special_tokens=False)["input_ids"] == conversation["input_ids"]


def test_a_system_message_without_parts_stands_for_none(checkpoint_only: Checkpoint) -> None:
    prompt = checkpoint_only.prompts.build([Message("system", ()), Message("user", (TextPart("Hi"),))])
    ids = checkpoint_only.tokenizer.encode("USER: Hi ASSISTANT:").ids
    assert list(prompt.token_ids) == ids


def expanded(config: DreamLLMConfig, token_ids: tuple[int, ...]) -> list[int]:
    """Ids with each placeholder as many times as a picture has patches."""
    return [i for i in token_ids for _ in range(config.num_image_tokens if i == config.image_token_id else 1)]
