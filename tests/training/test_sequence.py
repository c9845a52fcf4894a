"""How documents become token sequences: the layout of the official training code."""

import random

import numpy as np
import pytest
import torch

from models.training.documents import INSTRUCTIONS, Document, Drawn, Shown, Turn
from models.training.pictures import for_autoencoder
from models.training.sequence import IGNORED, Encoder, collate
from models.training.world import RESOLUTION, Scene, Shape, Wish
from tests.training.parts import tiny_config, tiny_processor

SCENE = Scene("white", (Shape("circle", "red", "big", "center"),))
PICTURE = Drawn(SCENE, Wish.of(SCENE))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    processor = tiny_processor()
    return Encoder(tiny_config(processor), processor)


def text_ids(encoder: Encoder, text: str) -> list[int]:
    ids: list[int] = encoder.tokenizer.encode(text, add_special_tokens=False)
    return ids


def image_ids(encoder: Encoder) -> list[int]:
    config = encoder.config
    return [config.image_start_token_id, *[config.image_token_id] * 16, config.image_end_token_id]


def test_a_picture_of_the_answer_is_dreamt_then_shown(encoder: Encoder) -> None:
    config = encoder.config
    document = Document(("Draw a red circle.",), ("Here.", PICTURE, "Done."))
    example = encoder.encode(document, random.Random(1))
    prompt = [1, *text_ids(encoder, "USER: Draw a red circle. ASSISTANT:")]
    answer = [*text_ids(encoder, "Here."), *config.dream_block, *image_ids(encoder), *text_ids(encoder, "Done."), 2]
    assert example.ids == prompt + answer
    assert example.ids[example.dreams[0].queries] == config.dream_query_token_id
    assert example.dreams[0].wish == Wish.of(SCENE)
    assert np.array_equal(example.images[0], example.dreams[0].picture)


def test_only_answer_text_dream_token_and_end_are_learned(encoder: Encoder) -> None:
    example = encoder.encode(Document(("Draw.",), ("Here.", PICTURE, "Done.")), random.Random(1))
    learned = [label for label in example.labels if label != IGNORED]
    dream = encoder.config.dream_token_id
    assert learned == [*text_ids(encoder, "Here."), dream, *text_ids(encoder, "Done."), 2]
    assert all(label in (IGNORED, token) for label, token in zip(example.labels, example.ids, strict=True))


def test_a_picture_that_is_not_learned_has_no_label_on_its_dream_token(encoder: Encoder) -> None:
    example = encoder.encode(Document(("Draw.",), ("Here.", Drawn(SCENE, learned=False))), random.Random(1))
    assert [label for label in example.labels if label != IGNORED] == [*text_ids(encoder, "Here."), 2]
    assert len(example.dreams) == 1


def test_without_feedback_the_picture_is_not_shown(encoder: Encoder) -> None:
    example = encoder.encode(Document(("Draw.",), ("Here.", PICTURE), feedback=False), random.Random(1))
    assert encoder.config.image_token_id not in example.ids
    assert example.images == []
    assert len(example.dreams) == 1


def test_a_bare_document_is_text_and_pictures_alone(encoder: Encoder) -> None:
    document = Document(None, (Shown(SCENE), "A red circle."))
    example = encoder.encode(document, random.Random(1))
    assert example.ids == [1, *image_ids(encoder), *text_ids(encoder, "A red circle."), 2]
    caption = encoder.encode(Document(None, ("A red circle.", PICTURE), learned=False), random.Random(1))
    assert set(caption.labels) == {IGNORED}


def test_a_conversation_of_two_turns_is_what_the_chat_template_writes(encoder: Encoder) -> None:
    document = Document(("And a square.",), ("There.",), earlier=(Turn(("Draw a circle.",), ("Here.",)),))
    example = encoder.encode(document, random.Random(1))
    messages = [
        {"role": role, "content": text}
        for role, text in (
            ("user", "Draw a circle."),
            ("assistant", "Here."),
            ("user", "And a square."),
            ("assistant", "There."),
        )
    ]
    whole = encoder.tokenizer.apply_chat_template(messages, tokenize=False)
    assert encoder.tokenizer.decode(example.ids) == encoder.tokenizer.decode(text_ids(encoder, whole))
    learned = [label for label in example.labels if label != IGNORED]
    assert learned == [*text_ids(encoder, "Here."), 2, *text_ids(encoder, "There."), 2]


def test_the_rough_length_of_documents_is_near_their_length(encoder: Encoder) -> None:
    rng = random.Random(2)
    for document in (INSTRUCTIONS.sample(rng) for _ in range(30)):
        length = len(encoder.encode(document, rng).ids)
        assert encoder.rough_length(document) == pytest.approx(length, rel=0.4, abs=15)


def test_a_batch_finds_the_query_states_of_every_dream(encoder: Encoder) -> None:
    rng = random.Random(4)
    examples = [encoder.encode(INSTRUCTIONS.sample(rng), rng) for _ in range(24)]
    batch = collate(examples, encoder.processor, denoised=3, side=RESOLUTION)
    queries = encoder.config.num_dream_queries
    found = batch.dream_states(batch.input_ids.unsqueeze(-1), queries).squeeze(-1)
    assert len(found) == sum(len(example.dreams) for example in examples) == len(batch.wishes) > 3
    assert (found == torch.tensor(encoder.config.dream_query_token_ids)).all()
    assert batch.pixel_values is not None
    placeholders = int((batch.input_ids == encoder.config.image_token_id).sum())
    assert placeholders == len(batch.pixel_values) * encoder.config.num_image_tokens
    assert batch.pictures is not None
    assert batch.pictures.shape == (3, 3, RESOLUTION, RESOLUTION)


def test_pictures_are_normalised_as_the_processor_does(encoder: Encoder) -> None:
    example = encoder.encode(Document(("Draw.",), (PICTURE,)), random.Random(5))
    other = np.asarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3)), dtype=np.uint8)
    for images in (example.images, [*example.images, other]):
        example.images = images
        batch = collate([example], encoder.processor)
        expected = encoder.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        assert batch.pixel_values is not None
        torch.testing.assert_close(batch.pixel_values, expected, atol=1e-5, rtol=0)


def test_pictures_of_any_size_are_cut_to_squares_for_the_autoencoder() -> None:
    wide = np.zeros((40, 80, 3), dtype=np.uint8)
    wide[:, 20:60] = 255
    (picture,) = for_autoencoder([wide], 32)
    assert picture.shape == (3, 32, 32)
    assert float(picture[:, :, 2:-2].min()) == 1.0
