"""Penalties over an answer that takes several engine requests: those of one request, to the last bit."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality, validate_logits_processors_parameters
from vllm.v1.sample.ops.penalties import apply_all_penalties
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcRequestState,
    build_custom_logits_processors_params_validator,
)

from models.vllm_plugin.answer_penalties import AnswerPenalties, AnswerPenaltiesV2, count_earlier_tokens

VOCABULARY = 50
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Request:
    """An answer of which ``earlier`` was sampled by another engine request, and ``output`` by this one."""

    prompt: list[int]
    earlier: list[int]
    output: list[int]
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0

    @property
    def params(self) -> SamplingParams:
        params = SamplingParams(
            repetition_penalty=self.repetition,
            presence_penalty=self.presence,
            frequency_penalty=self.frequency,
        )
        count_earlier_tokens(params, self.earlier)
        return params

    @property
    def whole_prompt(self) -> list[int]:
        return self.prompt + self.earlier


REQUESTS = [
    Request([1, 2, 3], earlier=[3, 4, 4, 5], output=[4, 6], repetition=1.3, presence=0.7, frequency=0.4),
    Request([7], earlier=[8, 9, 8], output=[], presence=1.5),
    Request([1, 1], earlier=[2], output=[2, 2, 3], frequency=-0.6),
    Request([5], earlier=[6, 7], output=[6], repetition=0.8, frequency=0.3),
    Request([5], earlier=[6], output=[6]),
]


def random_logits(rows: int) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(1))


def penalised(logits: torch.Tensor, requests: list[Request]) -> torch.Tensor:
    """What vLLM makes of the logits when one engine request samples the whole answer."""
    longest = max(len(request.prompt) for request in requests)
    prompts = [request.prompt + [VOCABULARY] * (longest - len(request.prompt)) for request in requests]
    return apply_all_penalties(
        logits.clone(),
        torch.tensor(prompts),
        torch.tensor([request.presence for request in requests]),
        torch.tensor([request.frequency for request in requests]),
        torch.tensor([request.repetition for request in requests]),
        [request.earlier + request.output for request in requests],
    )


def update(processor: AnswerPenalties, rows: dict[int, Request], **changes: list[object]) -> None:
    added = [(row, request.params, request.whole_prompt, request.output) for row, request in rows.items()]
    processor.update_state(BatchUpdate(8, **{"removed": [], "moved": [], "added": added, **changes}))


def test_the_first_model_runner_penalises_as_if_one_request_had_sampled_all() -> None:
    processor = AnswerPenalties(None, CPU, False)
    update(processor, dict(enumerate(REQUESTS)))
    logits = random_logits(len(REQUESTS))
    assert torch.equal(processor.apply(logits.clone()), penalised(logits, REQUESTS))


def test_tokens_count_as_soon_as_they_are_sampled() -> None:
    request = Request([1], earlier=[2, 3], output=[2], presence=1.0, frequency=0.5)
    processor = AnswerPenalties(None, CPU, False)
    update(processor, {0: request})
    logits = random_logits(1)
    for token_id in (2, 4, 4):
        request.output.append(token_id)
        processor.update_state(None)
        assert torch.equal(processor.apply(logits.clone()), penalised(logits, [request]))


def test_penalties_follow_their_requests_through_the_batch() -> None:
    processor = AnswerPenalties(None, CPU, False)
    first, second, third, *_ = REQUESTS
    update(processor, {0: first, 1: second, 2: third})
    update(processor, {}, moved=[(0, 1, MoveDirectionality.SWAP)])
    logits = random_logits(3)
    assert torch.equal(processor.apply(logits.clone()), penalised(logits, [second, first, third]))
    update(processor, {}, removed=[0], moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)])
    assert torch.equal(processor.apply(logits[:2].clone()), penalised(logits[:2], [third, first]))
    plain = Request([1], earlier=[], output=[2], presence=1.0)
    update(processor, {0: plain})
    assert torch.equal(processor.apply(logits[:2].clone())[0], logits[0])


def slots(requests: dict[int, Request]) -> LogitsProcRequestState:
    """The second model runner's memory with requests in slots, as far as penalties read it."""
    tokens = torch.full((8, 32), -1, dtype=torch.int32)
    prompt_lengths = np.zeros(8, dtype=np.int32)
    for slot, request in requests.items():
        ids = request.whole_prompt + request.output
        tokens[slot, : len(ids)] = torch.tensor(ids)
        prompt_lengths[slot] = len(request.whole_prompt)
    return LogitsProcRequestState(
        device=CPU,
        max_num_reqs=8,
        vocab_size=VOCABULARY,
        all_token_ids=SimpleNamespace(gpu=tokens),
        prompt_len=SimpleNamespace(np=prompt_lengths),
        prefill_len=None,
        total_len=None,
    )


def step(requests: dict[int, Request]) -> LogitsContext:
    """A step with one row of logits for each of the requests, in this order."""
    lengths = [len(request.whole_prompt + request.output) for request in requests.values()]
    rows = torch.tensor(list(requests))
    return LogitsContext(
        expanded_idx_mapping=rows,
        idx_mapping=rows,
        idx_mapping_np=rows.numpy(),
        expanded_local_pos=torch.zeros_like(rows),
        input_ids=torch.zeros_like(rows),
        pos=torch.tensor(lengths) - 1,
        seq_lens_upper_bound_np=np.array(lengths),
    )


def test_the_second_model_runner_penalises_as_if_one_request_had_sampled_all() -> None:
    requests = dict(zip((6, 2, 0, 3, 5), REQUESTS, strict=True))
    processor = AnswerPenaltiesV2(None, slots(requests))
    modifies = [processor.add_request(slot, request.params) for slot, request in requests.items()]
    assert modifies == [True, True, True, True, False]
    logits = random_logits(len(requests))
    assert torch.equal(processor.apply(logits.clone(), step(requests)), penalised(logits, REQUESTS))


def test_a_slot_forgets_the_penalties_of_the_request_before() -> None:
    plain = Request([1], earlier=[], output=[2], presence=1.0)
    processor = AnswerPenaltiesV2(None, slots({4: plain}))
    processor.add_request(4, REQUESTS[0].params)
    processor.add_request(4, plain.params)
    logits = random_logits(1)
    assert torch.equal(processor.apply(logits.clone(), step({4: plain})), logits)


def test_each_model_runner_takes_the_processor_made_for_it() -> None:
    first, second = (f"{kind.__module__}:{kind.__qualname__}" for kind in (AnswerPenalties, AnswerPenaltiesV2))
    validate_logits_processors_parameters([first], REQUESTS[0].params)
    build_custom_logits_processors_params_validator([second])(REQUESTS[0].params)
    with pytest.raises(ValueError, match="LogitsProcessor"):
        validate_logits_processors_parameters([second], REQUESTS[0].params)
    with pytest.raises(ValueError, match=r"LogitsProcessor|interface"):
        build_custom_logits_processors_params_validator([first])


@pytest.mark.parametrize(
    "request_",
    [Request([1], earlier=[], output=[], presence=1.0), Request([1], earlier=[2], output=[], repetition=1.2)],
)
def test_vllm_keeps_the_penalties_that_it_applies_exactly_itself(request_: Request) -> None:
    params = request_.params
    assert params.extra_args is None
    assert (params.presence_penalty, params.repetition_penalty) == (request_.presence, request_.repetition)
