"""The language model and the vision side in transformers against what the official code computed."""

import pytest
import torch

from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from tests.parity.converted import PIXELS, STATES, Checkpoint, our_ids, picture
from tests.parity.difference_report import DifferenceReport
from tests.parity.diffusion.official import golden, manifest

OFFICIAL_VOCABULARY = 408


@torch.inference_mode()
def greedy(
    model: DreamLLMForConditionalGeneration, ids: torch.Tensor, pixels: torch.Tensor | None, count: int
) -> tuple[list[int], torch.Tensor]:
    """The likeliest tokens one by one, and the logits ``[count, vocab]`` that they were taken from."""
    scores = []
    length = ids.shape[1]
    for _ in range(count):
        logits = model(input_ids=ids, pixel_values=pixels, logits_to_keep=1).logits[:, -1]
        scores.append(logits[:, :OFFICIAL_VOCABULARY])
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids[0, length:].tolist(), torch.cat(scores)


@torch.inference_mode()
def test_text(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    text = golden("text_lm")
    outputs = model(input_ids=text["input_ids"], output_hidden_states=True)
    report.compare("text logits", outputs.logits[..., :OFFICIAL_VOCABULARY], text["logits"], **STATES)
    for layer, states in enumerate(outputs.hidden_states):
        report.compare("text hidden states, each layer", states, text[f"hidden_{layer}"], **STATES)
    assert len(outputs.hidden_states) == 4
    report.compare("text hidden states, each layer", outputs.last_hidden_state, text["hidden_3"], **STATES)


def test_greedy_text(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    text = golden("text_lm")
    ids, scores = greedy(model, text["input_ids"], None, len(text["greedy_ids"]))
    report.compare("text, greedy ids", torch.tensor(ids), text["greedy_ids"], atol=0)
    report.compare("text, greedy logits", scores, text["greedy_scores"], **STATES)


def test_generate_with_the_kv_cache_gives_the_same_ids(model: DreamLLMForConditionalGeneration) -> None:
    text = golden("text_lm")
    prompt, expected = text["input_ids"], text["greedy_ids"]
    output = model.generate(input_ids=prompt, max_new_tokens=len(expected), do_sample=False)
    assert torch.equal(output[0, prompt.shape[1] :], expected)


@pytest.mark.parametrize(("index", "name"), [(0, "pixel_values"), (1, "pixel_values_image2")])
def test_pictures_are_prepared(processor: DreamLLMProcessor, report: DifferenceReport, index: int, name: str) -> None:
    pixels = processor.image_processor(picture(index), return_tensors="pt")["pixel_values"]
    report.compare("picture preprocessing", pixels, golden("image_comprehension")[name], **PIXELS)


@torch.inference_mode()
def test_clip_and_projector(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    images = golden("image_comprehension")
    states = model.model.vision_tower(images["pixel_values"], output_hidden_states=True).hidden_states
    for layer, layer_states in enumerate(states):
        report.compare("CLIP hidden states", layer_states, images[f"clip_hidden_{layer}"], **STATES)
    assert len(states) == 4
    for pixels, features in (("pixel_values", "image_features"), ("pixel_values_image2", "image_features_image2")):
        computed = model.model.get_image_features(images[pixels])
        report.compare("image features", computed, images[features], **STATES)


@torch.inference_mode()
def test_image_comprehension(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    vqa = golden("image_comprehension")
    ids, pixels = vqa["input_ids"], vqa["pixel_values"]
    embeddings = model.model.embed(ids, model.model.get_image_features(pixels))
    report.compare("image, input embeddings", embeddings, vqa["inputs_embeds"], **STATES)
    outputs = model(input_ids=ids, pixel_values=pixels)
    report.compare("image, hidden states", outputs.last_hidden_state, vqa["hidden_last_layer"], **STATES)
    logits = outputs.logits[..., :OFFICIAL_VOCABULARY]
    report.compare("image, logits", logits[:, -12:], vqa["logits"], **STATES)
    report.compare("image, logits", logits[:, -1], vqa["logits_last"], **STATES)


def test_greedy_image_comprehension(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    vqa = golden("image_comprehension")
    ids, _ = greedy(model, vqa["input_ids"], vqa["pixel_values"], len(vqa["greedy_ids"]))
    report.compare("image, greedy ids", torch.tensor(ids), vqa["greedy_ids"], atol=0)


@torch.inference_mode()
def test_an_image_text_pair_and_two_images(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    images = golden("image_comprehension")
    pair = model(input_ids=images["pair_input_ids"], pixel_values=images["pixel_values"]).logits
    report.compare("image-text pair, logits", pair[..., :OFFICIAL_VOCABULARY], images["pair_logits"], **STATES)
    both = torch.cat([images["pixel_values"], images["pixel_values_image2"]])
    two = model(input_ids=images["two_input_ids"], pixel_values=both, logits_to_keep=1).logits[:, -1]
    report.compare("two images, logits", two[..., :OFFICIAL_VOCABULARY], images["two_logits_last"], **STATES)


@pytest.mark.parametrize("name", ["prompt0", "prompt1", "prompt2", "uncond", "negative"])
def test_dream_states(model: DreamLLMForConditionalGeneration, report: DifferenceReport, name: str) -> None:
    dreams = golden("dream_states")
    states = model.dream_states(dreams[f"{name}_context_ids"][0])
    report.compare("dream states", states, dreams[f"{name}_states"][0], **STATES)


def test_dream_states_after_an_image(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    context = golden("dream_states")["mm_context_ids"][0]
    states = model.dream_states(context, golden("image_comprehension")["pixel_values"])
    report.compare("dream states after an image", states, golden("dream_states")["mm_states"][0], **STATES)


@torch.inference_mode()
def test_the_dream_block_is_embedded(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    block = model.get_input_embeddings()(torch.tensor([model.config.dream_block]))
    report.compare("dream block, embeddings", block, golden("dream_states")["query_block_embeds"], atol=0)


@torch.inference_mode()
def test_an_interleaved_document(model: DreamLLMForConditionalGeneration, report: DifferenceReport) -> None:
    document = golden("interleaved")
    ids = torch.tensor([our_ids(model.config, document["input_ids"])])
    embeddings = model.model.embed(ids, model.model.get_image_features(document["images"]))
    report.compare("interleaved, input embeddings", embeddings, document["inputs_embeds"], **STATES)
    outputs = model(input_ids=ids, pixel_values=document["images"], labels=document["labels"])
    report.compare("interleaved, hidden states", outputs.last_hidden_state, document["hidden_last_layer"], **STATES)
    report.compare("interleaved, logits", outputs.logits[..., :OFFICIAL_VOCABULARY], document["logits"], **STATES)
    report.compare("interleaved, loss", outputs.loss.reshape(1), document["lm_loss"], atol=0, rtol=1e-4)
    for start, expected in zip(document["dream_start_positions"], document["query_states"], strict=True):
        queries = outputs.last_hidden_state[0, start + 1 : start + 1 + len(expected)]
        report.compare("interleaved, dream states", queries, expected, **STATES)


@pytest.mark.parametrize("name", ["prompt0", "prompt1", "prompt2", "uncond", "negative"])
def test_a_prompt_for_a_picture_is_its_text_alone(checkpoint_only: Checkpoint, name: str) -> None:
    facts = manifest()["files"]["dream_states.npz"]["facts"]
    texts = {f"prompt{i}": text for i, text in enumerate(facts["prompts"])} | {"negative": facts["negative"]}
    prompt = checkpoint_only.prompts.build_negative(texts.get(name, ""))
    assert list(prompt.token_ids) == golden("dream_states")[f"{name}_context_ids"][0].tolist()
