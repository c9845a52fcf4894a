"""The order in which vLLM serves requests, and what it tells of its load."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

from server.llm.engine import EngineLoad, Priority, Sampling, TokenChunk
from server.llm.vllm_engine import PRIORITIES, VLLMEngine
from tests.shared_engine import MAX_MODEL_LEN, MAX_NUM_SEQS
from tests.vllm.reference import random_prompt

pytestmark = pytest.mark.vllm

LONG = Sampling(max_tokens=400, seed=0)


@asynccontextmanager
async def full(engine: VLLMEngine) -> AsyncIterator[list[AsyncGenerator[TokenChunk, None]]]:
    """The engine, with as many requests at work as it takes."""
    async with AsyncExitStack() as stack:
        running = [engine.generate(f"long-{n}", random_prompt(40, seed=n), LONG) for n in range(MAX_NUM_SEQS)]
        for chunks in running:
            await stack.enter_async_context(aclosing(chunks))
            await anext(chunks)
        yield running


async def waiting(engine: VLLMEngine, count: int) -> None:
    """Return when so many requests wait."""
    while engine.load().waiting != count:  # noqa: ASYNC110 - vLLM has no event for it
        await asyncio.sleep(0.001)


async def test_the_later_requests_of_answers_go_before_the_first_ones_of_others(engine: VLLMEngine) -> None:
    served: list[str] = []

    async def begin(name: str, priority: Priority) -> None:
        async with aclosing(engine.generate(name, random_prompt(40, seed=90), LONG, priority)) as chunks:
            await anext(chunks)
            served.append(name)

    async with full(engine) as running, asyncio.TaskGroup() as requests:
        requests.create_task(begin("first of another", "normal"))
        await waiting(engine, 1)
        requests.create_task(begin("later", "high"))
        await waiting(engine, 2)
        requests.create_task(begin("later still", "high"))
        await waiting(engine, 3)
        await running[0].aclose()

    assert served == ["later", "later still", "first of another"]


async def test_dreams_have_the_priority_that_they_are_given(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    generate = engine.llm.generate

    def recorded(*args: Any, priority: int) -> Any:
        given.append(priority)
        return generate(*args, priority=priority)

    monkeypatch.setattr(engine.llm, "generate", recorded)
    await engine.dream_states("in an answer", random_prompt(40, seed=91), "high")
    await engine.dream_states("alone", random_prompt(40, seed=92))

    assert given == [PRIORITIES["high"], PRIORITIES["normal"]]
    assert PRIORITIES["high"] < PRIORITIES["normal"]


async def test_the_load_is_that_of_the_latest_step(engine: VLLMEngine) -> None:
    assert engine.load() == EngineLoad()
    async with full(engine):
        busy = engine.load()
    idle = engine.load()

    assert busy.running == MAX_NUM_SEQS
    assert busy.waiting == 0
    assert 0 < busy.kv_usage < 1
    assert idle == EngineLoad()


def test_the_kv_cache_holds_at_least_one_whole_context(engine: VLLMEngine) -> None:
    assert engine.kv_tokens >= MAX_MODEL_LEN
