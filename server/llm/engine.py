"""What the interceptor needs of a language model: tokens, and dream states. The one implementation is vLLM's."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import torch
from PIL.Image import Image as PILImage
from tokenizers import Tokenizer

from models.dreamllm.configuration import DreamLLMConfig
from server.llm.conversation import pixels_digest

Priority = Literal["normal", "high"]
"""``"high"`` goes before all that is ``"normal"`` and waits: the later requests of an answer that has begun."""

IMPOSSIBLE = -9999.0
"""Stands for the log probability of minus infinity, which JSON has no number for. OpenAI writes the same."""


class EngineError(Exception):
    """The engine could not do what was asked of it."""


class EngineDeadError(EngineError):
    """The engine is gone and will not come back in this process."""


class SamplingError(ValueError):
    """A way of sampling that the engine does not have: the caller's to mend.

    Attributes:
        param: the field of the request to blame, by OpenAI's name: ``"response_format"`` for a JSON schema.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class PromptImage:
    """A picture in the context.

    Attributes:
        id: names its content: equal ids mean equal pixels, so the engine hashes and encodes it once.
        pixels: RGB.
    """

    id: str
    pixels: PILImage = field(repr=False)

    @classmethod
    def of(cls, pixels: PILImage) -> Self:
        """The picture under its :func:`~server.llm.conversation.pixels_digest`. Not for the event loop."""
        return cls(pixels_digest(pixels), pixels)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A context as the engine takes it.

    Attributes:
        token_ids: with ONE ``image_token_id`` for each picture; the engine expands it to the picture's patches.
        images: the pictures, in order.
    """

    token_ids: tuple[int, ...]
    images: tuple[PromptImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one engine request samples.

    Attributes:
        max_tokens: sampled tokens at most, the stop token included.
        temperature: 0 is greedy.
        top_p: nucleus mass.
        top_k: 0 keeps all tokens.
        seed: makes the request repeatable; None draws at random.
        stop_token_ids: end the request when sampled; the token is part of its output.
        banned_token_ids: never sampled.
        min_p: drops tokens less likely than this share of the likeliest one; 0 to 1, 0 keeps all.
        repetition_penalty: above 0. Positive logits of tokens that the prompt or the output has are divided by it,
            negative ones multiplied; 1 changes nothing.
        presence_penalty: -2 to 2, taken off the logits of tokens that the output has.
        frequency_penalty: -2 to 2, taken off the logits of tokens once for each time that the output has them.
        earlier_token_ids: the end of an answer may be a request of its own: what was sampled of it before, and counts
            as output for the penalties. All of it stands in the prompt.
        logit_bias: added to the logits of token ids; a ban outdoes it.
        logprobs: how many of the likeliest tokens to tell beside each one sampled, 0 to 20; None tells nothing.
        json_schema: the output is JSON that this JSON schema, itself in JSON, allows.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    banned_token_ids: tuple[int, ...] = ()
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    earlier_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    json_schema: str | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely a sampled token was, and the likeliest tokens in its place.

    Log probabilities are natural logarithms by the logits of the model, before temperature, penalties, biases and bans.
    What a JSON schema rules out has :data:`IMPOSSIBLE`.

    Attributes:
        logprob: of the sampled token.
        top: token ids with their log probabilities, likeliest first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens sampled since the last chunk.

    Attributes:
        token_ids: in order, the stop token included.
        finish_reason: set on the last chunk: ``"stop"`` when the last token is a stop token, else ``"length"``.
        prompt_tokens: length of the whole prompt, pictures expanded.
        cached_tokens: how many of them came from the prefix cache.
        logprobs: one for each token if they were asked for, else none.
    """

    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is.

    Attributes:
        running: requests that are computed.
        waiting: requests that wait for a place in a batch, or for room in the KV cache.
        kv_usage: share of the KV cache that requests hold, 0 to 1. What is only kept for its prefix does not count.
    """

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0


class LLMEngine(Protocol):
    """The language model behind an answer. All but :meth:`check` is called on one event loop.

    Attributes:
        config: the model's configuration: token ids, number of queries, patches of a picture.
        tokenizer: the model's tokenizer; the caller keeps to methods that do not change it.
        chat_template: Jinja source.
        eos_token_id: ends an answer.
        max_model_len: tokens that a context may hold, pictures expanded.
        kv_tokens: tokens that the KV cache holds, of all contexts together.
    """

    config: DreamLLMConfig
    tokenizer: Tokenizer
    chat_template: str
    eos_token_id: int
    max_model_len: int
    kv_tokens: int

    def check(self, sampling: Sampling) -> None:
        """Return if the engine can sample so. From any thread but the event loop's: a JSON schema takes milliseconds.

        Raises:
            SamplingError: it cannot.
        """
        ...

    def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        """Sample tokens after a prompt. Closing the iterator aborts the request.

        Raises:
            EngineError: this request failed; EngineDeadError: all of them did.
        """
        ...

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        """States ``[num_dream_queries, hidden_size]`` of the queries placed after the context.

        The context is given without the dream token; the engine appends the whole dream block. Cancelling the
        call aborts the request.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Stop a request and free what it holds: its call ends with an EngineError. Unknown ids are ignored."""
        ...

    def load(self) -> EngineLoad:
        """How busy the engine was at its latest step."""
        ...

    async def health(self) -> None:
        """Return if the engine can serve.

        Raises:
            EngineDeadError: it cannot.
        """
        ...
