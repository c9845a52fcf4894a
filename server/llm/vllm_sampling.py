"""How vLLM samples: our :class:`~server.llm.engine.Sampling` in its words, and its log probabilities in ours."""

import re
from collections.abc import Mapping

from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.exceptions import VLLMValidationError
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.tokenizers import TokenizerLike

from models.vllm_plugin.answer_penalties import count_earlier_tokens
from server.llm.engine import IMPOSSIBLE, Sampling, SamplingError, TokenLogprobs

MAX_BIASED_TOKENS = 1024
"""Of one request, banned ones included: vLLM's second model runner keeps no more, and more would end its engine."""
MAX_SCHEMA_LENGTH = 16_384
"""Characters of a JSON schema: vLLM reads it once more on the event loop, some 2 ms for 1,000 of them."""
SOURCE_LINE = re.compile(r"\[[\d:]+\] \S+:\d+: ")
"""Where in its own code xgrammar found an error, with the time of day."""


def sampling_params(sampling: Sampling) -> SamplingParams:
    """vLLM's name for a :class:`~server.llm.engine.Sampling`.

    Raises:
        VLLMValidationError: a number is out of its range.
    """
    schema = sampling.json_schema
    params = SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        seed=sampling.seed,
        stop_token_ids=list(sampling.stop_token_ids),
        # The constructor, unlike SamplingParams.from_optional, takes a bias as it is: minus infinity is a ban.
        logit_bias={**sampling.logit_bias, **dict.fromkeys(sampling.banned_token_ids, float("-inf"))} or None,
        logprobs=sampling.logprobs,
        structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    count_earlier_tokens(params, sampling.earlier_token_ids)
    return params


def check_sampling(sampling: Sampling, config: VllmConfig, tokenizer: TokenizerLike) -> None:
    """Return if vLLM can sample so.

    Raises:
        SamplingError: it cannot.
    """
    room = MAX_BIASED_TOKENS - len(sampling.banned_token_ids)
    if len(sampling.logit_bias.keys() - sampling.banned_token_ids) > room:
        raise SamplingError("logit_bias", f"at most {room} tokens")
    vocabulary = range(config.model_config.get_vocab_size())
    if (unknown := next((i for i in sampling.logit_bias if i not in vocabulary), None)) is not None:
        raise SamplingError("logit_bias", f"there is no token {unknown}")
    if len(sampling.json_schema or "") > MAX_SCHEMA_LENGTH:
        raise SamplingError("response_format", f"a JSON schema has at most {MAX_SCHEMA_LENGTH} characters")
    try:
        sampling_params(sampling).verify(
            config.model_config, config.speculative_config, config.structured_outputs_config, tokenizer
        )
    except VLLMValidationError as error:
        raise SamplingError(blamed(error), SOURCE_LINE.sub("", error.args[0]).strip()) from error


def blamed(error: VLLMValidationError) -> str:
    """The field that an error of vLLM's is about. It names most of them, if only in the message, but no JSON schema."""
    named: str = error.parameter or error.args[0].split()[0]
    return named if named in Sampling.__dataclass_fields__ else "response_format"


def token_logprobs(output: CompletionOutput, count: int | None) -> tuple[TokenLogprobs, ...]:
    """The log probabilities of an output's tokens, if they were asked for, with so many alternatives."""
    if count is None:
        return ()
    positions = zip(output.token_ids, output.logprobs, strict=True)
    return tuple(TokenLogprobs(finite(found[token_id]), likeliest(found, count)) for token_id, found in positions)


def likeliest(position: Mapping[int, Logprob], count: int) -> tuple[tuple[int, float], ...]:
    """The first tokens of a position by rank. vLLM gives as many, and the sampled one wherever it ranks."""
    ranked = sorted(position.items(), key=lambda item: item[1].rank)
    return tuple((token_id, finite(logprob)) for token_id, logprob in ranked[:count])


def finite(logprob: Logprob) -> float:
    """A log probability that JSON can write."""
    return max(float(logprob.logprob), IMPOSSIBLE)
