"""Dream states out of vLLM equal those of the Hugging Face model, however vLLM computes them."""

import asyncio

import pytest
import torch

from server.llm.engine import EngineError, Priority, Prompt, Sampling
from server.llm.vllm_engine import VLLMEngine
from tests.shared_engine import BLOCK_SIZE, TOKEN_BUDGET
from tests.vllm.reference import Reference, picture, random_prompt, write_prompt

pytestmark = pytest.mark.vllm


def assert_states_equal(states: torch.Tensor, expected: torch.Tensor) -> None:
    # Of values up to about 4: rounding alone made 1.3e-4 on a CPU without AVX-512.
    torch.testing.assert_close(states, expected, atol=5e-4, rtol=0)


async def test_states_after_a_text_equal_the_reference(engine: VLLMEngine, reference: Reference) -> None:
    prompt = write_prompt(engine, "USER: draw a red circle ASSISTANT: Here it is:")
    assert_states_equal(await engine.dream_states("text", prompt), reference.dream_states(prompt))


async def test_states_after_an_empty_prompt_equal_the_reference(engine: VLLMEngine, reference: Reference) -> None:
    prompt = write_prompt(engine)
    assert_states_equal(await engine.dream_states("empty", prompt), reference.dream_states(prompt))


async def test_states_after_one_and_two_pictures_equal_the_reference(engine: VLLMEngine, reference: Reference) -> None:
    one = write_prompt(engine, "USER: like this ", picture(1), " but blue ASSISTANT:")
    two = write_prompt(engine, "USER: from ", picture(2), " to ", picture(3), " ASSISTANT:")
    assert_states_equal(await engine.dream_states("one", one), reference.dream_states(one))
    assert_states_equal(await engine.dream_states("two", two), reference.dream_states(two))


async def test_pictures_are_told_apart_by_their_ids(engine: VLLMEngine, reference: Reference) -> None:
    first, second = (write_prompt(engine, "USER: ", picture(seed), " again ASSISTANT:") for seed in (4, 5))
    states = await engine.dream_states("first", first)
    others = await engine.dream_states("second", second)
    assert_states_equal(states, reference.dream_states(first))
    assert_states_equal(others, reference.dream_states(second))
    assert (states - others).abs().max() > 0.1


async def test_a_second_dream_of_a_document_sees_the_first_and_its_picture(
    engine: VLLMEngine, reference: Reference
) -> None:
    start = write_prompt(engine, "USER: tell me a story ASSISTANT: Once")
    await engine.dream_states("dream-1", start)
    drawn = picture(6)
    text = engine.tokenizer.encode(" upon a time", add_special_tokens=False).ids
    ids = (*start.token_ids, *engine.config.dream_block, *engine.config.image_block, *text)
    document = Prompt(ids, (drawn,))
    assert_states_equal(await engine.dream_states("dream-2", document), reference.dream_states(document))


@pytest.mark.parametrize("length", [TOKEN_BUDGET - 10, TOKEN_BUDGET - 4, TOKEN_BUDGET - 1, TOKEN_BUDGET, 140, 490])
async def test_states_hold_when_chunked_prefill_cuts_the_prompt(
    engine: VLLMEngine, reference: Reference, length: int
) -> None:
    prompt = random_prompt(length, seed=length)
    assert_states_equal(await engine.dream_states(f"chunked-{length}", prompt), reference.dream_states(prompt))


async def test_states_of_concurrent_requests_do_not_mix(engine: VLLMEngine, reference: Reference) -> None:
    decoding = [
        asyncio.create_task(collect(engine, f"decoding-{i}", random_prompt(20, seed=100 + i), max_tokens=120))
        for i in range(3)
    ]
    dreams = [
        *(random_prompt(length, seed=length) for length in (11, 75, 199)),
        *(write_prompt(engine, "USER: number ", picture(seed), " now ASSISTANT:") for seed in (10, 11)),
        write_prompt(engine, picture(12), picture(13), "USER: both ASSISTANT:"),
    ]
    states = await asyncio.gather(*(engine.dream_states(f"dream-{i}", prompt) for i, prompt in enumerate(dreams)))
    for prompt, got in zip(dreams, states, strict=True):
        assert_states_equal(got, reference.dream_states(prompt))
    assert [len(tokens) for tokens in await asyncio.gather(*decoding)] == [120] * 3


@pytest.mark.parametrize(
    ("length", "cached"),
    # The queries of a context of n tokens are at n+1 to n+8. vLLM caches full blocks, never the last token.
    [(2 * BLOCK_SIZE - 9, "all"), (2 * BLOCK_SIZE - 4, "some"), (BLOCK_SIZE + 1, "none")],
)
async def test_states_hold_when_the_prefix_cache_has_the_queries(
    engine: VLLMEngine, reference: Reference, monkeypatch: pytest.MonkeyPatch, length: int, cached: str
) -> None:
    prompt = random_prompt(length, seed=1000 + length)
    first = await engine.dream_states(f"{cached}-1", prompt)
    engine.dream_cache.clear()
    runs: list[tuple[bool, bool]] = []
    capture = engine._capture

    async def watched(
        request_id: str, dream: Prompt, skip_prefix_cache: bool, priority: Priority
    ) -> torch.Tensor | None:
        states = await capture(request_id, dream, skip_prefix_cache, priority)
        runs.append((skip_prefix_cache, states is not None))
        return states

    monkeypatch.setattr(engine, "_capture", watched)
    second = await engine.dream_states(f"{cached}-2", prompt)
    assert runs == ([(False, True)] if cached == "none" else [(False, False), (True, True)])
    assert_states_equal(second, first)
    assert_states_equal(second, reference.dream_states(prompt))


async def test_a_second_identical_request_is_answered_from_memory(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = random_prompt(33, seed=7)
    states = await engine.dream_states("remembered-1", prompt)
    monkeypatch.setattr(engine, "_capture", None)
    assert torch.equal(await engine.dream_states("remembered-2", prompt), states)


async def test_the_same_context_dreamt_concurrently_gives_the_same_states(
    engine: VLLMEngine, reference: Reference
) -> None:
    prompt = random_prompt(2 * BLOCK_SIZE - 9, seed=8)
    states = await asyncio.gather(*(engine.dream_states(f"same-{i}", prompt) for i in range(4)))
    for got in states:
        assert_states_equal(got, reference.dream_states(prompt))


async def test_a_context_too_long_to_dream_is_refused(engine: VLLMEngine) -> None:
    with pytest.raises(EngineError, match="maximum context length is 512 tokens"):
        await engine.dream_states("too-long", random_prompt(505, seed=9))


async def collect(engine: VLLMEngine, request_id: str, prompt: Prompt, max_tokens: int) -> list[int]:
    sampling = Sampling(max_tokens=max_tokens, seed=0)
    return [token async for chunk in engine.generate(request_id, prompt, sampling) for token in chunk.token_ids]
