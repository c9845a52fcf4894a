"""Dream states out of vLLM: a KV connector that moves no KV, and the worker method that hands the states over.

A request asks for capture by ``SamplingParams.extra_args[CAPTURE_ARG]``, an id of the caller's choice under which
:meth:`DreamCaptureWorkerExtension.take_dream_states` gives the states back. Its prompt must end with the dream block:
``num_dream_queries`` queries and ``<dream_end>``.

A position whose KV came from the prefix cache is not computed, so it has no state. Such a capture is incomplete and is
never handed over; the caller runs the request again with ``skip_reading_prefix_cache``.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    SupportsHMA,
)

from models.vllm_plugin.hidden_states import last_hidden_states

if TYPE_CHECKING:
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

CAPTURE_ARG = "dream_capture"


@dataclass(frozen=True, slots=True)
class StepCapture:
    """The queries of one request that a step computes.

    Attributes:
        capture_id: whose they are.
        first_query: index of the first of them among the dream queries.
        slots: their KV slots, in order.
    """

    capture_id: str
    first_query: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DreamCaptureMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """What the scheduler tells the workers about a step."""

    captures: tuple[StepCapture, ...]


@dataclass(frozen=True, slots=True)
class _Captured:
    """States ``[num_dream_queries, hidden]`` and which of them are there, on the model's device."""

    states: torch.Tensor
    present: torch.Tensor


class CapturedStates:
    """Dream states that wait in a worker to be collected. Beyond ``capacity`` captures the oldest is dropped."""

    def __init__(self, num_queries: int, capacity: int) -> None:
        self._num_queries = num_queries
        self._capacity = capacity
        self._captured: OrderedDict[str, _Captured] = OrderedDict()

    def __len__(self) -> int:
        return len(self._captured)

    def add(self, capture: StepCapture, states: torch.Tensor, present: torch.Tensor) -> None:
        """Add the states ``[n, hidden]`` of a step's queries; ``present`` ``[n]`` says which are real."""
        captured = self._captured.get(capture.capture_id)
        if captured is None:
            captured = _Captured(
                states.new_zeros(self._num_queries, states.shape[1]), present.new_zeros(self._num_queries)
            )
            self._captured[capture.capture_id] = captured
        step = slice(capture.first_query, capture.first_query + len(states))
        captured.states[step] = states
        captured.present[step] = present
        self._captured.move_to_end(capture.capture_id)
        while len(self._captured) > self._capacity:
            self._captured.popitem(last=False)

    def take(self, capture_id: str) -> torch.Tensor | None:
        """Remove a capture. Its states, or None when any of them is missing. Waits for the device."""
        captured = self._captured.pop(capture_id, None)
        if captured is None or not bool(captured.present.all()):
            return None
        return captured.states

    def discard(self, capture_id: str) -> None:
        """Remove a capture, if it is there."""
        self._captured.pop(capture_id, None)


class DreamCaptureConnector(KVConnectorBase_V1, SupportsHMA):  # type: ignore[misc]
    """Captures the last hidden states of dream queries.

    The scheduler's instance knows the requests and turns the query positions of each step into KV slots; a worker's
    instance finds the rows of these slots after the forward pass.
    """

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        groups = kv_cache_config.kv_cache_groups
        if len(groups) != 1:
            raise ValueError(f"dream capture needs one KV cache group, as a Llama has; there are {len(groups)}")
        self._block_size: int = groups[0].kv_cache_spec.block_size
        self._num_queries: int = vllm_config.model_config.hf_config.num_dream_queries
        # Scheduler: position of the first query of each request that asked for capture, and its capture id.
        self._first_query: dict[str, tuple[str, int]] = {}
        # Worker: a full batch of dream requests, and as many that nobody came for.
        self.captured = CapturedStates(self._num_queries, capacity=2 * vllm_config.scheduler_config.max_num_seqs)

    @property
    def requires_kv_delivery(self) -> bool:
        return False

    # Scheduler side

    def on_new_request(self, request: "Request") -> None:
        params = request.sampling_params
        capture_id = params.extra_args.get(CAPTURE_ARG) if params and params.extra_args else None
        if capture_id is not None:
            self._first_query[request.request_id] = (capture_id, request.num_prompt_tokens - 1 - self._num_queries)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> DreamCaptureMetadata:
        requests = [r for r in scheduler_output.num_scheduled_tokens if r in self._first_query]
        if not requests:
            return DreamCaptureMetadata(())
        cached = scheduler_output.scheduled_cached_reqs
        computed = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        computed |= {new.req_id: new.num_computed_tokens for new in scheduler_output.scheduled_new_reqs}
        captures = (self._step_capture(r, computed[r], scheduler_output) for r in requests)
        return DreamCaptureMetadata(tuple(capture for capture in captures if capture.slots))

    def _step_capture(self, request_id: str, computed: int, scheduler_output: "SchedulerOutput") -> StepCapture:
        capture_id, first_query = self._first_query[request_id]
        (blocks,) = scheduler_output.kv_connector_block_state.get_block_ids(request_id)
        start = max(computed, first_query)
        end = min(computed + scheduler_output.num_scheduled_tokens[request_id], first_query + self._num_queries)
        slots = (blocks[p // self._block_size] * self._block_size + p % self._block_size for p in range(start, end))
        return StepCapture(capture_id, start - first_query, tuple(slots))

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._first_query.pop(request.request_id, None)
        return False, None

    def request_finished_all_groups(
        self, request: "Request", block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished(request, [])

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        return 0, False

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        return

    # Worker side

    def wait_for_save(self) -> None:
        metadata = cast(DreamCaptureMetadata, self._get_connector_metadata())
        # With tensor parallelism every rank has the same states after the final norm: one keeps them.
        if not metadata.captures or get_tensor_model_parallel_rank() != 0:
            return
        source = last_hidden_states(self._vllm_config)
        for capture in metadata.captures:
            slots = torch.tensor(capture.slots, dtype=torch.int64).to(source.slots.device, non_blocking=True)
            self.captured.add(capture, *source.rows(slots))

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        return

    def wait_for_layer_load(self, layer_name: str) -> None:
        return

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: "AttentionMetadata", **kwargs: Any
    ) -> None:
        return


def _connector() -> DreamCaptureConnector:
    return cast(DreamCaptureConnector, get_kv_transfer_group())


class DreamCaptureWorkerExtension:
    """Methods of a vLLM worker, for ``worker_extension_cls``; called through ``collective_rpc``."""

    def take_dream_states(self, capture_id: str) -> tuple[str, tuple[int, ...], bytes] | None:
        """Hand over the dream states of a finished request and forget them.

        Returns:
            dtype, shape and bytes: what vLLM's typed message format can carry. None when this worker does not hold
            all of them.
        """
        states = _connector().captured.take(capture_id)
        if states is None:
            return None
        data = states.cpu().contiguous().view(torch.uint8).numpy().tobytes()
        return str(states.dtype).removeprefix("torch."), tuple(states.shape), data

    def discard_dream_states(self, capture_id: str) -> None:
        """Forget the states of a request that nobody will collect. Unknown ids are ignored."""
        _connector().captured.discard(capture_id)

    def count_dream_states(self) -> int:
        """Captures that wait to be collected."""
        return len(_connector().captured)
