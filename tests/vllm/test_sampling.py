"""What a request may ask of the sampler, on the real engine."""

import json
import math
from typing import Any

import pytest
import torch

from server.llm.engine import IMPOSSIBLE, Sampling, SamplingError, TokenLogprobs
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.llm.vllm_sampling import MAX_BIASED_TOKENS, MAX_SCHEMA_LENGTH
from tests.vllm.reference import Reference, picture, random_prompt, write_prompt

pytestmark = pytest.mark.vllm

SCHEMA = {
    "type": "object",
    "properties": {
        "shape": {"enum": ["circle", "star"]},
        "big": {"type": "boolean"},
        "numbers": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
    },
    "required": ["shape", "big", "numbers"],
    "additionalProperties": False,
}


async def sample(
    engine: VLLMEngine, request_id: str, sampling: Sampling, text: str = "hello"
) -> tuple[list[int], list[TokenLogprobs]]:
    ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    async for chunk in engine.generate(request_id, write_prompt(engine, f"USER: {text} ASSISTANT:"), sampling):
        ids += chunk.token_ids
        logprobs += chunk.logprobs
    return ids, logprobs


async def test_log_probabilities_are_the_references(engine: VLLMEngine, reference: Reference) -> None:
    prompt = write_prompt(engine, "USER: what is ", picture(40), "? ASSISTANT:")
    ids: list[int] = []
    told: list[TokenLogprobs] = []
    sampling = Sampling(12, temperature=1.5, seed=3, presence_penalty=1.0, logprobs=5)
    async for chunk in engine.generate("logprobs", prompt, sampling):
        assert len(chunk.logprobs) == len(chunk.token_ids)
        ids += chunk.token_ids
        told += chunk.logprobs
    context, pixels = reference.inputs(prompt)
    with torch.inference_mode():
        whole = torch.cat([context, torch.tensor(ids[:-1])]).unsqueeze(0)
        logits = reference.model(input_ids=whole, pixel_values=pixels, logits_to_keep=len(ids)).logits[0]
    expected = logits.log_softmax(-1)
    for token_id, token, row in zip(ids, told, expected, strict=True):
        assert token.logprob == pytest.approx(row[token_id].item(), abs=1e-3)
        assert [logprob for _, logprob in token.top] == pytest.approx(row.topk(5).values.tolist(), abs=1e-3)
        assert [row[i].item() for i, _ in token.top] == pytest.approx(row.topk(5).values.tolist(), abs=1e-3)


@pytest.mark.parametrize(("asked", "told"), [(None, []), (0, [0] * 6), (20, [20] * 6)])
async def test_so_many_alternatives_are_told_as_were_asked_for(
    engine: VLLMEngine, asked: int | None, told: list[int]
) -> None:
    _, logprobs = await sample(engine, f"top-{asked}", Sampling(6, temperature=1.5, seed=1, logprobs=asked))
    assert [len(token.top) for token in logprobs] == told


async def test_min_p_of_one_leaves_the_likeliest_token(engine: VLLMEngine) -> None:
    greedy, _ = await sample(engine, "greedy", Sampling(24, temperature=0.0))
    hot, _ = await sample(engine, "hot", Sampling(24, temperature=2.0, seed=4))
    narrow, _ = await sample(engine, "narrow", Sampling(24, temperature=2.0, seed=4, min_p=1.0))
    assert narrow == greedy != hot


async def test_a_bias_makes_tokens_likelier(engine: VLLMEngine) -> None:
    ids, _ = await sample(engine, "biased", Sampling(8, temperature=0.0, logit_bias={300: 100.0}))
    assert ids == [300] * 8


async def test_a_ban_outdoes_any_bias(engine: VLLMEngine) -> None:
    config = engine.config
    control = PromptBuilder(engine).control_token_ids
    assert {config.dream_token_id, engine.eos_token_id, *config.dream_query_token_ids} <= control
    sampling = Sampling(
        200, temperature=2.0, seed=5, logit_bias=dict.fromkeys(control, 100.0), banned_token_ids=tuple(control)
    )
    ids, _ = await sample(engine, "banned", sampling)
    assert not control & set(ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
async def test_an_answer_is_the_json_that_was_asked_for(engine: VLLMEngine, temperature: float) -> None:
    control = PromptBuilder(engine).control_token_ids
    sampling = Sampling(
        120,
        temperature=temperature,
        seed=6,
        stop_token_ids=(engine.eos_token_id,),
        banned_token_ids=tuple(control - {engine.eos_token_id}),
        logprobs=20,
        json_schema=json.dumps(SCHEMA),
    )
    ids, logprobs = await sample(engine, f"json-{temperature}", sampling, "draw a star")
    assert ids[-1] == engine.eos_token_id
    answer = json.loads(engine.tokenizer.decode(ids))
    assert list(answer) == ["shape", "big", "numbers"]
    assert answer["shape"] in ("circle", "star")
    assert answer["big"] in (True, False)
    assert len(answer["numbers"]) <= 3
    assert all(number in range(10) for number in answer["numbers"])
    # A grammar leaves less than twenty tokens to choose from; the others have no probability at all.
    told = [logprob for token in logprobs for _, logprob in token.top]
    assert IMPOSSIBLE in told
    assert all(math.isfinite(logprob) for logprob in told)


async def test_free_json_is_json_as_far_as_it_goes(engine: VLLMEngine) -> None:
    sampling = Sampling(
        60,
        temperature=1.0,
        seed=7,
        stop_token_ids=(engine.eos_token_id,),
        banned_token_ids=tuple(PromptBuilder(engine).control_token_ids - {engine.eos_token_id}),
        json_schema='{"type": "object"}',
    )
    ids, _ = await sample(engine, "free-json", sampling)
    assert engine.tokenizer.decode(ids).startswith("{")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"presence_penalty": 2.1}, "presence_penalty", "-2"),
    ({"frequency_penalty": -2.1}, "frequency_penalty", "-2"),
    ({"repetition_penalty": 0.0}, "repetition_penalty", "greater than zero"),
    ({"min_p": 1.1}, "min_p", "0, 1"),
    ({"logprobs": 21}, "logprobs", "20"),
    ({"logit_bias": {100_000: 1.0}}, "logit_bias", "no token 100000"),
    ({"logit_bias": {-1: 1.0}}, "logit_bias", "no token -1"),
    ({"logit_bias": dict.fromkeys(range(MAX_BIASED_TOKENS + 1), 1.0)}, "logit_bias", "at most 1022"),
    ({"json_schema": "{"}, "response_format", "JSON"),
    ({"json_schema": '{"type": "shape"}'}, "response_format", 'grammar: Unsupported type "shape"$'),
    ({"json_schema": '{"$ref": "#/nowhere"}'}, "response_format", "nowhere"),
    ({"json_schema": '{"type": "integer", "multipleOf": 3}'}, "response_format", "not supported"),
    ({"json_schema": '{"type": "string", "pattern": "("}'}, "response_format", "parenthesis"),
    ({"json_schema": json.dumps({"title": "x" * MAX_SCHEMA_LENGTH})}, "response_format", "16384"),
    ({"json_schema": '{"items":' * 100 + "{}" + "}" * 100}, "response_format", "nested"),
]


@pytest.mark.parametrize(("asked", "param", "message"), REFUSED, ids=[f"{a}"[:40] for a, _, _ in REFUSED])
async def test_what_cannot_be_sampled_is_refused_and_named(
    engine: VLLMEngine, asked: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(SamplingError, match=message) as refused:
        engine.check(Sampling(4, banned_token_ids=(7, 8), **asked))
    assert refused.value.param == param


async def test_what_can_be_sampled_is_not_refused(engine: VLLMEngine) -> None:
    engine.check(Sampling(4, logprobs=20, json_schema=json.dumps(SCHEMA), logit_bias={3: -100.0}, min_p=1.0))
    prompt = random_prompt(5, seed=41)
    chunks = [chunk async for chunk in engine.generate("alive", prompt, Sampling(2, temperature=0.0))]
    assert chunks[-1].finish_reason == "length"
