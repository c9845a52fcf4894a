"""How documents become token sequences: the layout of the official training code."""

import random

import numpy as np
import pytest
import torch

from models.training.documents import MIXTURE, Document, sample_document
from models.training.language import build_config, build_processor, sample_documents
from models.training.sequence import IGNORED, Encoder, collate
from models.training.world import RESOLUTION, Scene, Shape, draw, sample_scene

SCENE = Scene("white", (Shape("circle", "red", "big", "center"),))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    processor = build_processor(0)
    return Encoder(build_config(processor), processor)


def text_ids(encoder: Encoder, text: str) -> list[int]:
    ids: list[int] = encoder.tokenizer.encode(text, add_special_tokens=False)
    return ids


def test_a_picture_of_the_answer_is_dreamt_then_shown(encoder: Encoder) -> None:
    config = encoder.config
    document = Document(("draw a red circle",), ("Here.", SCENE, "Done."))
    example = encoder.encode(document, random.Random(1))
    prompt = [1, *text_ids(encoder, "USER: draw a red circle ASSISTANT:")]
    image = [config.image_start_token_id, *[config.image_token_id] * 16, config.image_end_token_id]
    expected = [*prompt, *text_ids(encoder, "Here."), *config.dream_block, *image, *text_ids(encoder, "Done."), 2]
    assert example.ids == expected
    assert example.ids[example.dreams[0].queries] == config.dream_query_token_id
    assert len(example.images) == 1


def test_only_answer_text_dream_token_and_end_are_learned(encoder: Encoder) -> None:
    example = encoder.encode(Document(("Draw",), ("Here.", SCENE, "Done.")), random.Random(1))
    learned = [label for label in example.labels if label != IGNORED]
    dream = encoder.config.dream_token_id
    assert learned == [*text_ids(encoder, "Here."), dream, *text_ids(encoder, "Done."), 2]
    assert all(label in (IGNORED, token) for label, token in zip(example.labels, example.ids, strict=True))


def test_without_feedback_the_picture_is_not_shown(encoder: Encoder) -> None:
    example = encoder.encode(Document(("Draw",), ("Here.", SCENE), feedback=False), random.Random(1))
    assert encoder.config.image_token_id not in example.ids
    assert example.images == []
    assert len(example.dreams) == 1


def test_a_bare_caption_teaches_no_text(encoder: Encoder) -> None:
    example = encoder.encode(Document(None, ("a red circle", SCENE)), random.Random(1))
    assert example.ids[0] == 1
    assert set(example.labels) == {IGNORED}


def test_a_batch_finds_the_query_states_of_every_dream(encoder: Encoder) -> None:
    rng = random.Random(4)
    examples = [encoder.encode(document, rng) for document in sample_documents(rng, 12)]
    batch = collate(examples, encoder.processor, torch.device("cpu"))
    queries = encoder.config.num_dream_queries
    found = batch.dream_states(batch.input_ids.unsqueeze(-1), queries).squeeze(-1)
    assert len(found) == sum(len(example.dreams) for example in examples) > 0
    assert (found == torch.tensor(encoder.config.dream_query_token_ids)).all()
    placeholders = int((batch.input_ids == encoder.config.image_token_id).sum())
    shown = 0 if batch.pixel_values is None else len(batch.pixel_values)
    assert placeholders == shown * encoder.config.num_image_tokens


def test_pictures_are_normalised_as_the_processor_does(encoder: Encoder) -> None:
    rng = random.Random(5)
    example = encoder.encode(Document(("Draw",), (sample_scene(rng),)), rng)
    batch = collate([example], encoder.processor, torch.device("cpu"))
    expected = encoder.processor.image_processor(example.images, return_tensors="pt")["pixel_values"]
    assert batch.pixel_values is not None
    assert example.images[0].shape == (RESOLUTION, RESOLUTION, 3)
    torch.testing.assert_close(batch.pixel_values, expected, atol=1e-5, rtol=0)


def test_every_kind_of_document_is_made() -> None:
    rng = random.Random(0)
    made = [sample_document(rng, {kind: 1.0}) for kind in MIXTURE]
    assert len(made) == len(MIXTURE)
    assert any(document.prompt is None for document in made)
    assert any(document.open_scenes for document in made)
    assert any(not any(isinstance(piece, Scene) for piece in document.answer) for document in made)


def test_the_jitter_of_a_picture_follows_its_generator() -> None:
    first, second = (draw(SCENE, random.Random(9)) for _ in range(2))
    assert np.array_equal(first, second)
