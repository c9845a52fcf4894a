"""vLLM's engine core, of which nothing is left but a clock: vLLM's front end is whole, and its tokens cost nothing."""

import asyncio
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.core_client import EngineCoreClient

from load_tests.fan_out.ticks import PERIOD_S, latest_tick, load_tokenizer, words
from models.vllm_plugin.dream_capture import DreamCaptureWorkerExtension

MAX_READERS = 10_000
MAX_MODEL_LEN = 2**16
"""Tokens of a context: an hour of ticks. No model computes them."""


def install() -> None:
    """Have every ``AsyncLLM`` of this process ask a clock for tokens, instead of starting vLLM's engine processes."""
    EngineCoreClient.make_async_mp_client = staticmethod(_make)


def _make(vllm_config: VllmConfig, **_: Any) -> "TickingCore":
    vllm_config.cache_config.kv_cache_size_tokens = MAX_READERS * MAX_MODEL_LEN  # an engine core would tell
    hf_config = vllm_config.model_config.hf_config
    return TickingCore((hf_config.num_dream_queries, hf_config.text_config.hidden_size))


class TickingCore:
    """What ``AsyncLLM`` needs of an engine core: at each tick every request gets a token, the same one.

    Ticks that nobody has asked for in time come together at the next question, as out of a queue between processes.

    Args:
        states_shape: of dream states, which are zeros.
    """

    engine_ranks_managed = (0,)
    resources = SimpleNamespace(engine_dead=False)

    def __init__(self, states_shape: tuple[int, int]) -> None:
        self._states_shape = states_shape
        self._ids = tuple(words(load_tokenizer()).values())
        self._left: dict[str, int] = {}
        self._next = latest_tick(time.monotonic()) + 1

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        """Begin a request."""
        self._left[request.request_id] = request.sampling_params.max_tokens

    async def abort_requests_async(self, request_ids: Iterable[str]) -> None:
        """End requests. Some may have ended."""
        for request_id in request_ids:
            self._left.pop(request_id, None)

    async def get_output_async(self) -> EngineCoreOutputs:
        """The tokens of the next tick, and of those before it that have not been asked for."""
        await asyncio.sleep(self._next * PERIOD_S - time.monotonic())
        due = max(latest_tick(time.monotonic()), self._next)
        ids = [self._ids[tick % len(self._ids)] for tick in range(self._next, due + 1)]
        self._next = due + 1
        return EngineCoreOutputs(outputs=[self._sampled(request_id, ids) for request_id in list(self._left)])

    def _sampled(self, request_id: str, ids: list[int]) -> EngineCoreOutput:
        left = self._left[request_id]
        self._left[request_id] = left - len(ids)
        if left > len(ids):
            return EngineCoreOutput(request_id, ids)
        del self._left[request_id]
        return EngineCoreOutput(request_id, ids[:left], finish_reason=FinishReason.LENGTH)

    async def collective_rpc_async(self, method: str, *_: Any, **__: Any) -> list[Any]:
        """The worker extension's answers."""
        if method != DreamCaptureWorkerExtension.take_dream_states.__name__:
            return [None]
        queries, hidden_size = self._states_shape
        return [("float32", self._states_shape, bytes(4 * queries * hidden_size))]

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        """It writes."""
        return ("generate",)

    async def reset_mm_cache_async(self) -> None:
        """There is none."""

    async def pause_scheduler_async(self, mode: str, clear_cache: bool) -> None:
        """Who pauses it ends the process."""

    def shutdown(self, timeout: float | None = None) -> None:
        """There are no processes."""
