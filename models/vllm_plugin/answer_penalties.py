"""Penalties that count the whole of an answer in an engine request that writes only its end.

To vLLM the output is what one request samples. Its presence and frequency penalties look at nothing else, so an answer
that goes on in another request, after a picture, would be let off all that it said before. Such a request names its
earlier tokens with :func:`count_earlier_tokens`. Its penalties are then applied by the logits processors of this file,
with vLLM's own function and the earlier tokens in front of the output; all other requests keep vLLM's.

vLLM has two model runners, each with its own kind of logits processor: the second one wherever there is Triton, the
first one elsewhere, as on a CPU. Both kinds come behind the logit bias, as vLLM's penalties do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.model_executor.layers.utils import apply_penalties
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

if TYPE_CHECKING:
    from vllm.config import VllmConfig

PENALTIES_ARG = "answer_penalties"


def count_earlier_tokens(params: SamplingParams, token_ids: Sequence[int]) -> None:
    """Make a request's penalties count tokens of its prompt as output.

    The repetition penalty counts the prompt anyway, so without the other two there is nothing to change.
    """
    if not token_ids or not (params.presence_penalty or params.frequency_penalty):
        return
    penalties = {
        "repetition": params.repetition_penalty,
        "presence": params.presence_penalty,
        "frequency": params.frequency_penalty,
        "earlier_token_ids": list(token_ids),
    }
    params.extra_args = {**(params.extra_args or {}), PENALTIES_ARG: penalties}
    params.repetition_penalty, params.presence_penalty, params.frequency_penalty = 1.0, 0.0, 0.0


class RequestPenalties:
    """The penalties of one request, on the device of its logits.

    Args:
        penalties: what :func:`count_earlier_tokens` wrote.
        device: of the logits.
    """

    def __init__(self, penalties: dict[str, Any], device: torch.device) -> None:
        self._repetition, self._presence, self._frequency = (
            torch.tensor([penalties[name]], device=device) for name in ("repetition", "presence", "frequency")
        )
        self._earlier = torch.tensor(penalties["earlier_token_ids"], device=device)

    def apply(self, logits: torch.Tensor, prompt: torch.Tensor, output: torch.Tensor) -> None:
        """Penalise logits ``[1, vocab]`` in place, after a prompt and an output of token ids int64 ``[length]``."""
        answer = torch.cat([self._earlier, output])
        apply_penalties(logits, prompt[None], answer[None], self._presence, self._frequency, self._repetition)


def request_penalties(params: SamplingParams, device: torch.device) -> RequestPenalties | None:
    """The penalties that a request leaves to this file, if any."""
    penalties = params.extra_args and params.extra_args.get(PENALTIES_ARG)
    return RequestPenalties(penalties, device) if penalties else None


class AnswerPenalties(LogitsProcessor):  # type: ignore[misc]
    """For the first model runner, which has one row of logits for each request of its batch."""

    def __init__(self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        # By row. vLLM goes on to extend the lists of output tokens that it handed over with the requests.
        self._requests: dict[int, tuple[RequestPenalties, torch.Tensor, list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._requests, batch_update, self._add)

    def _add(
        self, params: SamplingParams, prompt: list[int] | None, output: list[int]
    ) -> tuple[RequestPenalties, torch.Tensor, list[int]] | None:
        penalties = request_penalties(params, self._device)
        return None if penalties is None else (penalties, torch.tensor(prompt, device=self._device), output)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for row, (penalties, prompt, output) in self._requests.items():
            sampled = torch.tensor(output, dtype=torch.int64, device=self._device)
            penalties.apply(logits[row : row + 1], prompt, sampled)
        return logits


class AnswerPenaltiesV2(LogitsProcessorV2):  # type: ignore[misc]
    """For the second model runner, which keeps requests in slots and their tokens on the device.

    Without speculative decoding it has one row of logits for each request of a step.
    """

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        self._states = req_states
        self._penalties: dict[int, RequestPenalties] = {}
        self._in_use = np.zeros(req_states.max_num_reqs, dtype=bool)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        penalties = request_penalties(sampling_params, self._states.device)
        if penalties is None:
            self._penalties.pop(req_idx, None)
        else:
            self._penalties[req_idx] = penalties
        self._in_use[req_idx] = penalties is not None
        return penalties is not None

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        for row in np.flatnonzero(self._in_use[ctx.idx_mapping_np]).tolist():
            slot = int(ctx.idx_mapping_np[row])
            prompt_length = int(self._states.prompt_len.np[slot])
            length = int(ctx.seq_lens_upper_bound_np[row])
            tokens = self._states.all_token_ids.gpu[slot, :length].long()
            self._penalties[slot].apply(logits[row : row + 1], tokens[:prompt_length], tokens[prompt_length:])
        return logits
