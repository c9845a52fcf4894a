"""The converted checkpoint in real vLLM, through our engine, against what the official code computed."""

import pytest
import torch
from vllm import RequestOutput, SamplingParams, TokensPrompt

from server.llm.conversation import ImagePart, Message, TextPart
from server.llm.engine import Prompt, Sampling
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from tests.parity.converted import STATES, picture, prompt
from tests.parity.difference_report import DifferenceReport
from tests.parity.diffusion.official import golden, manifest

pytestmark = pytest.mark.vllm


async def greedy(engine: VLLMEngine, request_id: str, context: Prompt, count: int) -> torch.Tensor:
    ids: list[int] = []
    async for chunk in engine.generate(request_id, context, Sampling(max_tokens=count, temperature=0.0)):
        ids += chunk.token_ids
    return torch.tensor(ids)


async def compare_logits(
    engine: VLLMEngine, report: DifferenceReport, stage: str, context: Prompt, logits: torch.Tensor
) -> None:
    """Compare the 20 best log-probabilities, which vLLM tells, at every position of a prompt.

    Args:
        logits: official ones ``[length, vocab]``.
    """
    tokens = TokensPrompt(prompt_token_ids=list(context.token_ids))
    if context.images:
        tokens["multi_modal_data"] = {"image": [image.pixels for image in context.images]}
    (rendered,) = await engine.llm.renderer.render_cmpl_async([tokens])
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=20, detokenize=False)
    outputs: list[RequestOutput] = [output async for output in engine.llm.generate(rendered, params, stage)]
    output = outputs[-1]
    assert output.prompt_logprobs is not None
    assert len(output.prompt_logprobs) == len(logits)
    expected = logits.log_softmax(-1)
    for position, best in enumerate(output.prompt_logprobs[1:]):
        ids = sorted(best)
        ours = torch.tensor([best[token_id].logprob for token_id in ids])
        # The next token of the prompt is told too, however unlikely: a query's is minus infinity, and has no logit.
        official = [i for i, token_id in enumerate(ids) if token_id < logits.shape[1]]
        assert len(official) >= 20
        report.compare(stage, ours[official], expected[position, [ids[i] for i in official]], **STATES)


async def test_text(converted_engine: VLLMEngine, report: DifferenceReport) -> None:
    text = golden("text_lm")
    context = prompt(converted_engine.config, text["input_ids"])
    ids = await greedy(converted_engine, "text", context, len(text["greedy_ids"]))
    report.compare("vLLM: text, greedy ids", ids, text["greedy_ids"], atol=0)
    await compare_logits(converted_engine, report, "vLLM: text, log-probabilities", context, text["logits"][0])


async def test_image_comprehension(converted_engine: VLLMEngine, report: DifferenceReport) -> None:
    vqa = golden("image_comprehension")
    context = prompt(converted_engine.config, vqa["input_ids"], 0)
    ids = await greedy(converted_engine, "image", context, len(vqa["greedy_ids"]))
    report.compare("vLLM: image, greedy ids", ids, vqa["greedy_ids"], atol=0)


async def test_a_request_with_a_picture_gives_the_official_answer(
    converted_engine: VLLMEngine, report: DifferenceReport
) -> None:
    vqa = golden("image_comprehension")
    system, question = manifest()["files"]["image_comprehension.npz"]["facts"]["vqa_prompt"].split(" USER: ")
    question = question.split("<im_end>")[1].removesuffix(" ASSISTANT:")
    context = PromptBuilder(converted_engine).build(
        [
            Message("system", (TextPart(system),)),
            Message("user", (ImagePart(picture(0), "image1"), TextPart(question))),
        ]
    )
    ids = await greedy(converted_engine, "request", context, len(vqa["greedy_ids"]))
    report.compare("vLLM: image, greedy ids", ids, vqa["greedy_ids"], atol=0)


async def test_an_image_text_pair(converted_engine: VLLMEngine, report: DifferenceReport) -> None:
    images = golden("image_comprehension")
    context = prompt(converted_engine.config, images["pair_input_ids"], 0)
    stage = "vLLM: image-text pair, log-probabilities"
    await compare_logits(converted_engine, report, stage, context, images["pair_logits"][0])


@pytest.mark.parametrize("name", ["prompt0", "prompt1", "prompt2", "uncond", "negative"])
async def test_dream_states(converted_engine: VLLMEngine, report: DifferenceReport, name: str) -> None:
    dreams = golden("dream_states")
    context = prompt(converted_engine.config, dreams[f"{name}_context_ids"])
    states = await converted_engine.dream_states(f"dream-{name}", context)
    report.compare("vLLM: dream states", states, dreams[f"{name}_states"][0], **STATES)


async def test_dream_states_after_an_image(converted_engine: VLLMEngine, report: DifferenceReport) -> None:
    dreams = golden("dream_states")
    states = await converted_engine.dream_states("mm", prompt(converted_engine.config, dreams["mm_context_ids"], 0))
    report.compare("vLLM: dream states after an image", states, dreams["mm_states"][0], **STATES)


async def test_an_interleaved_document(converted_engine: VLLMEngine, report: DifferenceReport) -> None:
    document, config = golden("interleaved"), converted_engine.config
    ids = document["input_ids"][0]
    for dream, start in enumerate(document["dream_start_positions"].tolist()):
        context = prompt(config, ids[:start], *range(dream))
        states = await converted_engine.dream_states(f"interleaved-{dream}", context)
        report.compare("vLLM: interleaved, dream states", states, document["query_states"][dream], **STATES)
    stage = "vLLM: interleaved, log-probabilities"
    await compare_logits(converted_engine, report, stage, prompt(config, ids, 0, 1), document["logits"][0])
