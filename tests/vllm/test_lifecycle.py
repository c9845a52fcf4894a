"""What a request holds it gives back, however it ends; and what the engine does to its process."""

import asyncio
import os
import subprocess
import sys

import pytest
from prometheus_client import REGISTRY, generate_latest
from vllm import SamplingParams
from vllm.v1.engine.exceptions import EngineDeadError as VLLMEngineDeadError

from models.vllm_plugin.dream_capture import CAPTURE_ARG
from server.llm.engine import EngineDeadError, EngineError, Prompt, Sampling
from server.llm.vllm_engine import VLLMEngine
from tests.shared_engine import MAX_NUM_SEQS
from tests.vllm.reference import count_waiting_states, random_prompt

pytestmark = pytest.mark.vllm

LONG = Sampling(max_tokens=400, seed=0)


async def assert_nothing_is_held(engine: VLLMEngine) -> None:
    """No request here, none in vLLM's scheduler, no KV block, no captured states."""
    assert engine.llm.get_num_unfinished_requests() == 0
    # vLLM reports its state after each step: the first of these makes one, the second has it delivered.
    for probe in ("probe-1", "probe-2"):
        async for _ in engine.generate(probe, Prompt((1, 300)), Sampling(max_tokens=1)):
            pass
    for gauge in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert sum(s.value for m in REGISTRY.collect() if m.name == gauge for s in m.samples) == 0, gauge
    assert await count_waiting_states(engine) == 0


async def wait_for_request(engine: VLLMEngine) -> None:
    while engine.llm.get_num_unfinished_requests() == 0:  # noqa: ASYNC110 - vLLM has no event for it
        await asyncio.sleep(0)


async def test_abort_ends_a_request_and_frees_it(engine: VLLMEngine) -> None:
    chunks = engine.generate("aborted", random_prompt(40, seed=40), LONG)
    await anext(chunks)
    await engine.abort("aborted")
    with pytest.raises(EngineError, match="abort"):
        async for _ in chunks:
            pass
    await assert_nothing_is_held(engine)


async def test_closing_the_iterator_aborts(engine: VLLMEngine) -> None:
    chunks = engine.generate("closed", random_prompt(40, seed=41), LONG)
    await anext(chunks)
    await chunks.aclose()
    await assert_nothing_is_held(engine)


async def test_cancelling_the_reader_aborts(engine: VLLMEngine) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async for _ in engine.generate("cancelled", random_prompt(40, seed=42), LONG):
            reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_nothing_is_held(engine)


async def test_aborting_an_unknown_request_does_nothing(engine: VLLMEngine) -> None:
    await engine.abort("nobody")


async def test_abort_ends_a_dream_and_leaves_no_states(engine: VLLMEngine) -> None:
    dream = asyncio.create_task(engine.dream_states("dream", random_prompt(490, seed=43)))
    await wait_for_request(engine)
    await engine.abort("dream")
    with pytest.raises(EngineError, match="abort"):
        await dream
    await assert_nothing_is_held(engine)


async def test_cancelling_a_dream_aborts_it(engine: VLLMEngine) -> None:
    dream = asyncio.create_task(engine.dream_states("dream", random_prompt(490, seed=44)))
    await wait_for_request(engine)
    dream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dream
    await assert_nothing_is_held(engine)


async def test_states_captured_for_a_cancelled_dream_are_discarded(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = asyncio.Event()

    async def never(request_id: str) -> None:
        captured.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(engine, "_take_states", never)
    dream = asyncio.create_task(engine.dream_states("dream", random_prompt(30, seed=45)))
    await captured.wait()
    assert await count_waiting_states(engine) == 1
    dream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dream
    await assert_nothing_is_held(engine)


async def test_states_that_nobody_collects_are_bounded(engine: VLLMEngine) -> None:
    requests = [f"forgotten-{i}" for i in range(2 * MAX_NUM_SEQS + 3)]
    for i, request_id in enumerate(requests):
        params = SamplingParams(max_tokens=1, detokenize=False, extra_args={CAPTURE_ARG: request_id})
        prompt = Prompt((*random_prompt(20, seed=200 + i).token_ids, *engine.config.dream_block))
        async for _ in engine._run(request_id, prompt, params):
            pass
    assert await count_waiting_states(engine) == 2 * MAX_NUM_SEQS
    for request_id in requests:
        await engine.llm.collective_rpc("discard_dream_states", args=(request_id,))
    await assert_nothing_is_held(engine)


async def test_metrics_of_vllm_are_on_the_default_registry(engine: VLLMEngine) -> None:
    exposition = generate_latest(REGISTRY).decode()
    assert "vllm:num_requests_running" in exposition
    assert "vllm:prompt_tokens_total" in exposition


async def test_starting_leaves_the_environment_of_the_process_alone(
    engine: VLLMEngine, environment_before_start: dict[str, str]
) -> None:
    after = dict(os.environ)
    for environment in (after, environment_before_start):
        environment.pop("PYTEST_CURRENT_TEST", None)
    assert after == environment_before_start


async def test_a_healthy_engine_is_healthy(engine: VLLMEngine) -> None:
    await engine.health()


async def test_the_death_of_vllm_is_told_apart_from_a_failed_request(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*args: object, **kwargs: object) -> None:
        raise VLLMEngineDeadError

    monkeypatch.setattr(engine.llm, "check_health", die)
    monkeypatch.setattr(engine.llm, "add_request", die)
    with pytest.raises(EngineDeadError):
        await engine.health()
    with pytest.raises(EngineDeadError):
        await anext(engine.generate("late", random_prompt(10, seed=46), LONG))
    with pytest.raises(EngineDeadError):
        await engine.dream_states("late-dream", random_prompt(10, seed=46))


def test_importing_the_plugin_imports_nothing_else() -> None:
    code = "import sys, models.vllm_plugin; sys.exit('vllm' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
