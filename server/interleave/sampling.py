"""How the engine requests of an answer sample, so that together they sample as one would."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.interleave.document import DocumentRequest
from server.interleave.seeds import derived_seed
from server.llm.engine import LLMEngine, Sampling, SamplingError


@dataclass(frozen=True, slots=True)
class AnswerSampling:
    """The sampling of one answer.

    Attributes:
        engine: samples.
        request: says how.
        control_token_ids: what no text of the model may hold. They are banned but for those that end an engine request,
            whatever the caller's logit bias says.
    """

    engine: LLMEngine
    request: DocumentRequest
    control_token_ids: frozenset[int]

    def check(self) -> None:
        """Return if the answer can be sampled as asked for. Not for the event loop.

        Raises:
            SamplingError: it cannot.
        """
        if self.request.json_schema is not None and self.request.images.max > 0:
            raise SamplingError("response_format", "JSON is text alone, and this request allows pictures")
        self.engine.check(self.of_request(0, max_tokens=1, may_dream=self.request.images.max > 0, earlier=()))

    def of_request(self, number: int, max_tokens: int, may_dream: bool, earlier: Sequence[int]) -> Sampling:
        """The sampling of one engine request.

        Args:
            number: of the request, from 0.
            max_tokens: that it may sample.
            may_dream: whether it may ask for a picture.
            earlier: the tokens that those before it sampled, dream tokens included. What else stands in the context
                for a picture is banned anyway, so that no penalty matters to it.
        """
        request = self.request
        end = set() if request.ignore_eos else {self.engine.eos_token_id}
        stops = end | ({self.engine.config.dream_token_id} if may_dream else set())
        return Sampling(
            max_tokens=max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=None if request.seed is None else derived_seed(request.seed, number),
            stop_token_ids=tuple(sorted(stops)),
            banned_token_ids=tuple(sorted(self.control_token_ids - stops)),
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            earlier_token_ids=tuple(earlier),
            logit_bias=request.logit_bias,
            logprobs=request.logprobs,
            json_schema=request.json_schema,
        )
