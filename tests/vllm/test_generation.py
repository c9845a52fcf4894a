"""Tokens out of vLLM: the reference's, within the rules of sampling, and never a dream query."""

import asyncio

import pytest
from vllm import SamplingParams

from server.llm.engine import EngineError, Prompt, Sampling, TokenChunk
from server.llm.vllm_engine import VLLMEngine
from tests.shared_engine import BLOCK_SIZE
from tests.vllm.reference import Reference, picture, random_prompt, write_prompt

pytestmark = pytest.mark.vllm

GREEDY = Sampling(max_tokens=24, temperature=0.0)


async def run(engine: VLLMEngine, request_id: str, prompt: Prompt, sampling: Sampling) -> list[TokenChunk]:
    return [chunk async for chunk in engine.generate(request_id, prompt, sampling)]


def tokens_of(chunks: list[TokenChunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


async def run_raw(engine: VLLMEngine, request_id: str, prompt: Prompt, params: SamplingParams) -> list[int]:
    """Sampling parameters that the protocol has no name for."""
    tokens: list[int] = []
    async for output in engine._run(request_id, prompt, params):
        tokens = list(output.outputs[0].token_ids)
    return tokens


async def test_greedy_text_equals_the_reference(engine: VLLMEngine, reference: Reference) -> None:
    prompts = [
        write_prompt(engine, "USER: hello ASSISTANT:"),
        write_prompt(engine, "USER: what is ", picture(20), "? ASSISTANT:"),
        write_prompt(engine, picture(21), "USER: and ", picture(22), "? ASSISTANT:"),
        Prompt((*random_prompt(60, seed=23).token_ids, *engine.config.dream_block, 300)),
    ]
    answers = await asyncio.gather(*(run(engine, f"greedy-{i}", p, GREEDY) for i, p in enumerate(prompts)))
    for prompt, chunks in zip(prompts, answers, strict=True):
        assert tokens_of(chunks) == reference.greedy(prompt, GREEDY.max_tokens)


async def test_a_stop_token_ends_the_request_and_is_part_of_it(engine: VLLMEngine, reference: Reference) -> None:
    prompt = random_prompt(30, seed=24)
    expected = reference.greedy(prompt, 24)
    stop = expected[5]
    chunks = await run(engine, "stop", prompt, Sampling(24, temperature=0.0, stop_token_ids=(stop,)))
    assert tokens_of(chunks) == expected[: expected.index(stop) + 1]
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


async def test_chunks_tell_the_length_of_the_whole_prompt_and_its_cached_part(engine: VLLMEngine) -> None:
    prompt = write_prompt(engine, "USER: look at ", picture(25), " well ASSISTANT:")
    length = len(prompt.token_ids) - 1 + engine.config.num_image_tokens
    first = await run(engine, "cold", prompt, GREEDY)
    second = await run(engine, "warm", prompt, GREEDY)
    assert {chunk.prompt_tokens for chunk in first + second} == {length}
    assert first[-1].cached_tokens == 0
    assert second[-1].cached_tokens == length // BLOCK_SIZE * BLOCK_SIZE
    assert first[-1].finish_reason == "length"


async def test_the_end_of_the_context_ends_the_request(engine: VLLMEngine) -> None:
    chunks = await run(engine, "full", random_prompt(500, seed=26), Sampling(max_tokens=50))
    assert len(tokens_of(chunks)) == engine.max_model_len - 500
    assert chunks[-1].finish_reason == "length"


async def test_a_seed_repeats_whatever_else_is_in_the_batch(engine: VLLMEngine) -> None:
    prompt = random_prompt(25, seed=27)
    alone = tokens_of(await run(engine, "alone", prompt, Sampling(40, seed=5)))
    together = await asyncio.gather(*(run(engine, f"seed-{s}", prompt, Sampling(40, seed=s)) for s in (4, 5, 6)))
    others = [tokens_of(chunks) for chunks in together]
    assert others[1] == alone
    assert others[0] != alone
    assert others[2] != alone


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
async def test_query_ids_are_never_sampled_even_when_biased(engine: VLLMEngine, temperature: float) -> None:
    queries = engine.config.dream_query_token_ids
    params = SamplingParams(
        max_tokens=300,
        temperature=temperature,
        top_k=-1,
        seed=0,
        logit_bias=dict.fromkeys(queries, 100.0),
        ignore_eos=True,
        detokenize=False,
    )
    tokens = await run_raw(engine, f"biased-{temperature}", random_prompt(12, seed=28), params)
    assert len(tokens) == 300
    assert not set(tokens) & set(queries)


async def test_banned_tokens_are_never_sampled(engine: VLLMEngine, reference: Reference) -> None:
    prompt = random_prompt(18, seed=29)
    favourites = tuple(set(reference.greedy(prompt, 24)))
    greedy = await run(engine, "banned-0", prompt, Sampling(100, temperature=0.0, banned_token_ids=favourites))
    hot = await run(engine, "banned-1", prompt, Sampling(300, temperature=2.0, seed=1, banned_token_ids=favourites))
    assert not set(tokens_of(greedy + hot)) & set(favourites)


async def test_penalties_take_query_ids_in_the_prompt(engine: VLLMEngine) -> None:
    dreamt = Prompt((*random_prompt(20, seed=30).token_ids, *engine.config.dream_block))
    params = SamplingParams(
        max_tokens=40,
        repetition_penalty=1.4,
        presence_penalty=1.0,
        frequency_penalty=1.0,
        seed=0,
        ignore_eos=True,
        detokenize=False,
    )
    tokens = await run_raw(engine, "penalised", dreamt, params)
    assert len(tokens) == 40
    assert not set(tokens) & set(engine.config.dream_query_token_ids)


@pytest.mark.parametrize("length", [512, 600])
async def test_a_prompt_too_long_is_refused(engine: VLLMEngine, length: int) -> None:
    with pytest.raises(EngineError, match=r"length.*512"):
        await run(engine, "too-long", random_prompt(length, seed=31), GREEDY)


async def test_pictures_that_make_a_prompt_too_long_are_refused(engine: VLLMEngine) -> None:
    prompt = write_prompt(engine, *(picture(seed) for seed in range(30)))
    assert len(prompt.token_ids) < engine.max_model_len
    with pytest.raises(EngineError, match=r"length.*512"):
        await run(engine, "too-many", prompt, GREEDY)


async def test_image_tokens_without_pictures_are_refused(engine: VLLMEngine) -> None:
    block = tuple(engine.config.image_block)
    for prompt in (Prompt((1, *block)), Prompt((1, *block), (picture(1), picture(2)))):
        with pytest.raises(EngineError, match="1 image tokens for"):
            await run(engine, "mismatch", prompt, GREEDY)


async def test_an_empty_prompt_and_an_unknown_token_are_refused(engine: VLLMEngine) -> None:
    for prompt in (Prompt(()), Prompt((1, 100_000))):
        with pytest.raises(EngineError):
            await run(engine, "malformed", prompt, GREEDY)


async def test_parameters_out_of_range_are_refused(engine: VLLMEngine) -> None:
    for sampling in (Sampling(0), Sampling(4, temperature=-1.0), Sampling(4, top_p=2.0), Sampling(4, top_k=-5)):
        with pytest.raises(EngineError):
            await run(engine, "out-of-range", random_prompt(8, seed=32), sampling)
