"""DreamLLM as transformers users expect it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from models.dreamllm import DreamLLMConfig, DreamLLMForConditionalGeneration, DreamLLMProcessor
from tests.tiny_checkpoint import make_random_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model(folder: Path) -> DreamLLMForConditionalGeneration:
    return DreamLLMForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def processor(folder: Path) -> DreamLLMProcessor:
    return DreamLLMProcessor.from_pretrained(folder)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def test_the_auto_classes_know_it(folder: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(folder), DreamLLMConfig)
    assert isinstance(AutoModelForImageTextToText.from_pretrained(folder), DreamLLMForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(folder), DreamLLMProcessor)


def test_saving_and_loading_changes_nothing_and_pickles_nothing(
    model: DreamLLMForConditionalGeneration, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    again = DreamLLMForConditionalGeneration.from_pretrained(tmp_path)
    assert {**again.config.to_dict(), "_name_or_path": ""} == {**model.config.to_dict(), "_name_or_path": ""}
    for (name, a), (other, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_the_processor_expands_placeholders(
    processor: DreamLLMProcessor, model: DreamLLMForConditionalGeneration, picture: Image.Image
) -> None:
    inputs = processor(text="a<dream><image>b", images=[picture], add_special_tokens=False, return_tensors="pt")
    ids, config = inputs["input_ids"][0].tolist(), model.config
    start = ids.index(config.dream_token_id)
    image = [config.image_start_token_id, *[config.image_token_id] * config.num_image_tokens, config.image_end_token_id]
    assert ids[start : start + len(config.dream_block) + len(image)] == [*config.dream_block, *image]
    size = config.vision_config.image_size
    assert inputs["pixel_values"].shape == (1, 3, size, size)


def test_pictures_and_placeholders_must_be_as_many(processor: DreamLLMProcessor, picture: Image.Image) -> None:
    with pytest.raises(ValueError, match="2 <image> placeholders in the text for 1 images"):
        processor(text="<image><image>", images=[picture])


def test_a_picture_changes_what_follows_and_only_that(
    processor: DreamLLMProcessor, model: DreamLLMForConditionalGeneration, picture: Image.Image
) -> None:
    inputs = processor(text="ab<image>cd", images=[picture], add_special_tokens=False, return_tensors="pt")
    other = inputs["pixel_values"].flip(-1)
    with torch.inference_mode():
        a = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).logits[0]
        b = model(input_ids=inputs["input_ids"], pixel_values=other).logits[0]
    start = inputs["input_ids"][0].tolist().index(model.config.image_token_id)
    assert torch.equal(a[:start], b[:start])
    assert (a[-1] - b[-1]).abs().max() > 1e-3


def test_placeholders_without_enough_patches_are_an_error(
    processor: DreamLLMProcessor, model: DreamLLMForConditionalGeneration, picture: Image.Image
) -> None:
    inputs = processor(text="<image>", images=[picture], add_special_tokens=False, return_tensors="pt")
    with pytest.raises(ValueError, match="image placeholders for"):
        model(input_ids=inputs["input_ids"][:, :-3], pixel_values=inputs["pixel_values"])


def test_dream_queries_are_never_generated(
    processor: DreamLLMProcessor, model: DreamLLMForConditionalGeneration
) -> None:
    ids = processor(text="<s>hello", add_special_tokens=False, return_tensors="pt")["input_ids"]
    torch.manual_seed(0)
    output = model.generate(input_ids=ids.repeat(8, 1), do_sample=True, temperature=50.0, top_k=0, max_new_tokens=40)
    assert not set(output[:, ids.shape[1] :].flatten().tolist()) & set(model.config.dream_query_token_ids)


def test_dream_states_are_those_of_a_whole_forward_pass(
    processor: DreamLLMProcessor, model: DreamLLMForConditionalGeneration
) -> None:
    context = processor(text="<s>a red circle", add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    whole = processor(text="<s>a red circle<dream> and more", add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        states = model(input_ids=whole["input_ids"]).last_hidden_state[0]
    first = whole["input_ids"][0].tolist().index(model.config.dream_query_token_id)
    expected = states[first : first + model.config.num_dream_queries]
    torch.testing.assert_close(model.dream_states(context), expected, atol=1e-5, rtol=1e-5)


def test_the_queries_are_rows_of_the_embedding_table(model: DreamLLMForConditionalGeneration) -> None:
    ids = torch.tensor(model.config.dream_query_token_ids)
    assert torch.equal(model.get_input_embeddings()(ids), model.model.dream_queries)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"projector_depth": 0}, "projector_depth"),
        ({"feedback": "sometimes"}, "feedback"),
        ({"text_config": {"vocab_size": 9}, "dream_query_token_id": 8, "num_dream_queries": 8}, "past the vocabulary"),
    ],
)
def test_a_configuration_that_cannot_be_is_an_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DreamLLMConfig(**settings)
