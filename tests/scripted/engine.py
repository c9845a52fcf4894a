"""A stand-in for the language model.

A turn of :class:`ScriptedEngine` is what one ``generate`` call samples, item by item::

    ScriptedEngine(turns=[["Look: ", DREAM], [" A cat.", gate, EOS]])

A string is sampled token by token, a tuple of ids arrives as one chunk, ``DREAM`` and ``EOS`` are those tokens. A turn
without a stop token ends for its length. Log probabilities that are asked for are :func:`scripted_logprobs`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from server.llm.engine import (
    EngineDeadError,
    EngineLoad,
    Priority,
    Prompt,
    Sampling,
    SamplingError,
    TokenChunk,
    TokenLogprobs,
)
from tests.scripted.script import EOS, Gate, Recorded, Token
from tests.scripted.tokenizer import VICUNA_TEMPLATE, byte_tokenizer, tiny_config, token_id

TokenItem = str | int | tuple[int, ...] | Token | Gate | Exception
DreamItem = torch.Tensor | Gate | Exception


def scripted_logprobs(token_ids: Sequence[int], count: int) -> tuple[TokenLogprobs, ...]:
    """What the engine tells of sampled tokens: each the likeliest, the ids above it the alternatives."""
    return tuple(TokenLogprobs(-i / 1024, tuple((i + n, -(i + n) / 1024) for n in range(count))) for i in token_ids)


@dataclass(frozen=True)
class GenerateCall:
    """A call of ``generate``."""

    request_id: str
    prompt: Prompt
    sampling: Sampling
    priority: Priority = "normal"


@dataclass(frozen=True)
class DreamCall:
    """A call of ``dream_states``."""

    request_id: str
    prompt: Prompt
    priority: Priority = "normal"


class ScriptedEngine:
    """An :class:`~server.llm.engine.LLMEngine` that samples what its script says.

    Args:
        turns: one script for each ``generate`` call, in order. A call past the last one samples EOS.
        dreams: one result for each ``dream_states`` call, in order; a list waits at its gates first. A call past the
            last one gives states that tell its number.
        tokenizer: a real one; :func:`byte_tokenizer` by default.
        max_model_len: tokens that a context may hold.
        kv_tokens: tokens that the KV cache holds.
        chat_template: Jinja source.
        one_turn_for_all: start every ``generate`` call over with the first turn, for tests with many answers.
        refuses: what :meth:`check` raises.

    Attributes:
        calls: all ``generate`` calls.
        dream_calls: all ``dream_states`` calls.
        requests: ids of the calls of both kinds: running, finished, aborted.
        current_load: what :meth:`load` tells.
    """

    def __init__(
        self,
        turns: Sequence[Sequence[TokenItem]] = (),
        dreams: Sequence[DreamItem | Sequence[DreamItem]] = (),
        tokenizer: Tokenizer | None = None,
        max_model_len: int = 2048,
        kv_tokens: int = 2**20,
        chat_template: str = VICUNA_TEMPLATE,
        one_turn_for_all: bool = False,
        refuses: SamplingError | None = None,
    ) -> None:
        self.tokenizer = tokenizer or byte_tokenizer()
        self.config = tiny_config(self.tokenizer)
        self.chat_template = chat_template
        self.eos_token_id = token_id(self.tokenizer, "</s>")
        self.max_model_len = max_model_len
        self.kv_tokens = kv_tokens
        self.current_load = EngineLoad()
        self.calls: list[GenerateCall] = []
        self.dream_calls: list[DreamCall] = []
        self.requests = Recorded()
        self.dead = False
        self._turns = list(turns)
        self._dreams = list(dreams)
        self._one_turn_for_all = one_turn_for_all
        self._refuses = refuses

    def check(self, sampling: Sampling) -> None:
        if self._refuses is not None:
            raise self._refuses

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        turn = 0 if self._one_turn_for_all else len(self.calls)
        self.calls.append(GenerateCall(request_id, prompt, sampling, priority))
        items = self._turns[turn] if turn < len(self._turns) else [EOS]
        length = self.context_length(prompt)
        limit = min(sampling.max_tokens, self.max_model_len - length)
        assert limit > 0, "a request without room for a token"
        sampled = 0
        self.requests.running.append(request_id)
        try:
            for item in items:
                if isinstance(item, Gate):
                    await item.wait()
                    continue
                if isinstance(item, Exception):
                    raise item
                for ids in self._chunks(item):
                    await asyncio.sleep(0)  # as a real engine's stream does, it lets others run between its chunks
                    taken, reason = self._take(ids, sampling, limit - sampled)
                    sampled += len(taken)
                    logprobs = () if sampling.logprobs is None else scripted_logprobs(taken, sampling.logprobs)
                    yield TokenChunk(taken, reason, length, logprobs=logprobs)
                    if reason is not None:
                        self.requests.finished.append(request_id)
                        return
            yield TokenChunk((), "length", length)
            self.requests.finished.append(request_id)
        finally:
            self.requests.running.remove(request_id)
            if request_id not in self.requests.finished:
                self.requests.aborted.append(request_id)

    def context_length(self, prompt: Prompt) -> int:
        """Tokens of a prompt, its pictures expanded."""
        assert prompt.token_ids.count(self.config.image_token_id) == len(prompt.images)
        return len(prompt.token_ids) + len(prompt.images) * (self.config.num_image_tokens - 1)

    def _chunks(self, item: str | int | tuple[int, ...] | Token) -> list[tuple[int, ...]]:
        match item:
            case Token.DREAM:
                return [(self.config.dream_token_id,)]
            case Token.EOS:
                return [(self.eos_token_id,)]
            case str():
                return [(i,) for i in self.tokenizer.encode(item, add_special_tokens=False).ids]
            case int():
                return [(item,)]
            case _:
                return [item]

    @staticmethod
    def _take(ids: tuple[int, ...], sampling: Sampling, limit: int) -> tuple[tuple[int, ...], Any]:
        for n, sampled in enumerate(ids, start=1):
            assert sampled not in sampling.banned_token_ids, f"the script samples {sampled}, which is banned"
            if sampled in sampling.stop_token_ids:
                return ids[:n], "stop"
            if n == limit:
                return ids[:n], "length"
        return ids, None

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        call = len(self.dream_calls)
        self.dream_calls.append(DreamCall(request_id, prompt, priority))
        needed = self.context_length(prompt) + len(self.config.dream_block) + 1
        assert needed <= self.max_model_len, "a dream without room for its queries and one token"
        script = self._dreams[call] if call < len(self._dreams) else ()
        self.requests.running.append(request_id)
        try:
            for item in [script] if isinstance(script, torch.Tensor | Gate | Exception) else script:
                if isinstance(item, Gate):
                    await item.wait()
                elif isinstance(item, Exception):
                    raise item
                else:
                    self.requests.finished.append(request_id)
                    return item
            self.requests.finished.append(request_id)
            return torch.full((self.config.num_dream_queries, 8), float(call))
        finally:
            self.requests.running.remove(request_id)
            if request_id not in self.requests.finished:
                self.requests.aborted.append(request_id)

    async def abort(self, request_id: str) -> None:
        if request_id in self.requests.running:
            self.requests.aborted.append(request_id)

    def load(self) -> EngineLoad:
        return self.current_load

    async def health(self) -> None:
        if self.dead:
            raise EngineDeadError("the scripted engine is dead")
