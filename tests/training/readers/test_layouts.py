"""Records become documents by the rules of the official code."""

import random
from typing import Any

import numpy as np
import pytest

from models.training.documents import Document, Drawn, Shown
from models.training.readers.layouts import conversation, interleaved, pair
from tests.training.readers.examples import picture, shade

RNG = random.Random(0)


def find(name: str) -> np.ndarray:
    """Pictures are named by their shade."""
    return picture(int(name))


def spelled(document: Document) -> list[str | tuple[str, int]]:
    """The pieces, pictures by their kind and shade."""
    return [piece if isinstance(piece, str) else (type(piece).__name__, shade(piece)) for piece in document.pieces]


def test_a_pair_is_drawn_or_described() -> None:
    rng = random.Random(1)
    documents = [pair({"image": "7", "caption": " a cat\n"}, find, rng) for _ in range(20)]
    drawn = [document for document in documents if not document.learned]
    described = [document for document in documents if document.learned]
    assert 4 < len(drawn) < 16
    assert all(spelled(document) == ["a cat", ("Drawn", 7)] for document in drawn)
    assert all(spelled(document) == [("Shown", 7), "a cat"] for document in described)
    assert all(document.prompt is None for document in documents)


def test_pictures_of_a_document_come_after_the_sentences_that_they_go_with() -> None:
    record = {
        "text_list": ["One. ", "Two.", " Three.", "Four."],
        "image_info": [
            {"image_name": "2", "matched_text_index": 2, "matched_sim": 0.3},
            {"image_name": "1", "matched_text_index": 1},
        ],
    }
    document = interleaved(record, find, RNG)
    assert spelled(document) == ["One. Two.", ("Drawn", 1), "Three.", ("Drawn", 2), "Four."]
    assert document.prompt is None
    assert document.learned


def test_pictures_that_go_with_one_sentence_follow_each_other_in_the_order_of_the_record() -> None:
    images = [{"image_name": name, "matched_text_index": 0} for name in ("9", "3")]
    document = interleaved({"text_list": ["One."], "image_info": images}, find, RNG)
    assert spelled(document) == ["One.", ("Drawn", 9), ("Drawn", 3)]


def test_an_instruction_makes_a_document_an_answer() -> None:
    record = {"instruction": "Tell me.", "text_list": ["One."], "image_info": []}
    assert interleaved(record, find, RNG) == Document(("Tell me.",), ("One.",))


def test_a_conversation_keeps_its_turns_and_pictures() -> None:
    record = {
        "image": "5",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": "A cat."},
            {"from": "human", "value": "Draw it."},
            {"from": "gpt", "value": "Here: <dream> Done."},
        ],
    }
    document = conversation(record, find, RNG)
    assert spelled(document) == [("Shown", 5), "What is this?", "A cat.", "Draw it.", "Here:", ("Drawn", 5), "Done."]
    assert [len(turn.prompt) for turn in document.earlier] == [2]
    assert document.prompt == ("Draw it.",)


def test_the_dream_tokens_of_conversations_are_not_learned() -> None:
    turns = [{"from": "user", "value": "Draw."}, {"from": "assistant", "value": "<dream>"}]
    (dreamt,) = conversation({"image": "5", "conversations": turns}, find, RNG).answer
    assert isinstance(dreamt, Drawn)
    assert not dreamt.learned


@pytest.mark.parametrize(
    "named",
    [
        {"image": ["1", "2"], "conversations": [{}, {}]},
        {"conversations": [{"modal_info": {"<image>": ["image", ["1", "2"]]}}, {}]},
    ],
)
def test_several_pictures_are_named_in_a_list_or_by_their_placeholder(named: dict[str, Any]) -> None:
    said = ({"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "The first."})
    turns = [{**one, **other} for one, other in zip(said, named["conversations"], strict=True)]
    document = conversation({**named, "conversations": turns}, find, RNG)
    assert spelled(document) == [("Shown", 1), "or", ("Shown", 2), "?", "The first."]
    assert all(isinstance(piece, (str, Shown)) for piece in document.pieces)


def test_words_of_the_model_before_the_first_user_are_left_out() -> None:
    turns = [
        {"from": "gpt", "value": "Welcome."},
        {"from": "human", "value": "Hi."},
        {"from": "gpt", "value": "Hello."},
    ]
    assert conversation({"conversations": turns}, find, RNG) == Document(("Hi.",), ("Hello.",))


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "take turns"),
        ([{"from": "human", "value": "Hi."}], "take turns"),
        ([{"from": "human", "value": "Hi."}, {"from": "human", "value": "Hi?"}], "take turns"),
        ([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A cat."}], "no picture"),
        ([{"from": "ghost", "value": "Boo."}, {"from": "gpt", "value": "Who?"}], "from"),
    ],
)
def test_a_conversation_that_makes_no_sense_is_broken(turns: list[dict[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conversation({"conversations": turns}, find, RNG)


def test_a_user_does_not_dream() -> None:
    turns = [{"from": "human", "value": "<dream>"}, {"from": "gpt", "value": "No."}]
    with pytest.raises(ValueError, match="the user dreams"):
        conversation({"image": "1", "conversations": turns}, find, RNG)


@pytest.mark.parametrize(
    "record",
    [
        {"text_list": ["One."]},
        {"text_list": ["One."], "image_info": [{"image_name": "1", "matched_text_index": 1}]},
        {"text_list": ["One."], "image_info": [{"image_name": "1", "matched_text_index": -1}]},
        {"text_list": "One.", "image_info": []},
    ],
)
def test_a_document_with_misplaced_pictures_is_broken(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"image_info|sentence|matched_text_index|text_list"):
        interleaved(record, find, RNG)


@pytest.mark.parametrize("record", [{"image": "1"}, {"caption": "a cat"}, {"image": "1", "caption": ""}])
def test_a_pair_needs_picture_and_caption(record: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"image|caption"):
        pair(record, find, RNG)
