"""Stand-ins for the language model and the pool, for tests in which every token, pause and failure must be exact.

A turn of :class:`ScriptedEngine` is what one ``generate`` call samples, item by item::

    ScriptedEngine(turns=[["Look: ", DREAM], [" A cat.", gate, EOS]])

A string is sampled token by token, a tuple of ids arrives as one chunk, ``DREAM`` and ``EOS`` are those tokens, a
:class:`Gate` makes the call wait until the test opens it, an exception is raised. A turn without a stop token ends for
its length. Log probabilities that are asked for are :func:`scripted_logprobs`. A job of :class:`ScriptedPool` is a list
of updates, gates and exceptions in the same manner; without one it draws a picture in one colour.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImages
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from models.dreamllm.configuration import DreamLLMConfig
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
from server.pool.base import (
    Completed,
    ImageUpdate,
    PoolDeadError,
    PoolLoad,
    Preview,
    Progress,
    Queued,
    RenderedImage,
    RenderError,
    RenderJob,
)

VICUNA_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- 'USER: ' }}
    {%- elif message['role'] == 'assistant' %}
        {{- 'ASSISTANT: ' }}
    {%- endif %}
    {%- for part in message['content'] %}
        {%- if part['type'] == 'text' %}
            {{- part['text'] }}
        {%- elif message['role'] == 'assistant' %}
            {{- '<dream><image>' }}
        {%- else %}
            {{- '<image>' }}
        {%- endif %}
    {%- endfor %}
    {{- eos_token if message['role'] == 'assistant' else ' ' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'ASSISTANT:' }}
{%- endif %}
"""


class Token(Enum):
    """Tokens whose ids a script need not know."""

    DREAM = "dream"
    EOS = "eos"


DREAM = Token.DREAM
EOS = Token.EOS


class Gate:
    """A place where a script waits: ``await gate.reached.wait()`` in the test, then ``gate.open()``."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let the script go on."""
        self._opened.set()

    async def wait(self) -> None:
        """What the script does on reaching the gate."""
        self.reached.set()
        await self._opened.wait()


TokenItem = str | int | tuple[int, ...] | Token | Gate | Exception
DreamItem = torch.Tensor | Gate | Exception
JobItem = ImageUpdate | Gate | Exception


def byte_tokenizer(num_dream_queries: int = 4) -> Tokenizer:
    """A byte-level BPE without merges: ids 3 to 258 are the bytes, then the control tokens, then the dream queries."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = ["[PAD]", "<im_start>", "<dream_end>", "<dream_start>", "<im_patch>", "<im_end>", "<image>", "<dream>"]
    queries = [f"<dream_query_{i}>" for i in range(num_dream_queries)]
    special = ["<unk>", "<s>", "</s>", *control, *queries]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a token that must be there."""
    found = tokenizer.token_to_id(token)
    assert found is not None, f"no token {token}"
    return found


def tiny_config(tokenizer: Tokenizer, num_dream_queries: int = 4) -> DreamLLMConfig:
    """A configuration that fits a tokenizer with the published control tokens: pictures of four patches."""
    return DreamLLMConfig(
        text_config={"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8},
        vision_config={"image_size": 32, "patch_size": 16},
        dream_token_id=token_id(tokenizer, "<dream_start>"),
        dream_end_token_id=token_id(tokenizer, "<dream_end>"),
        dream_query_token_id=token_id(tokenizer, "<dream_query_0>"),
        num_dream_queries=num_dream_queries,
        image_start_token_id=token_id(tokenizer, "<im_start>"),
        image_end_token_id=token_id(tokenizer, "<im_end>"),
        image_token_id=token_id(tokenizer, "<im_patch>"),
    )


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


@dataclass
class Recorded:
    """What happened to requests or jobs: ids in the order of the events."""

    running: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)


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


def solid(width: int, height: int, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels uint8 ``[height, width, 3]`` in one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def rendered(job: RenderJob, colour: tuple[int, int, int] = (200, 30, 30)) -> RenderedImage:
    """A finished picture of a job, really encoded, in one colour."""
    pixels = solid(job.width, job.height, colour)
    encoded = io.BytesIO()
    PILImages.fromarray(pixels).save(encoded, format=job.format)
    return RenderedImage(encoded.getvalue(), job.format, pixels)


def drawing(job: RenderJob) -> list[JobItem]:
    """The default script of a job: queued, every step, the previews evenly spread, the picture."""
    previews = {job.steps * (i + 1) // (job.previews + 1): i for i in range(job.previews)}
    updates: list[JobItem] = [Queued(0, 0.1)]
    for step in range(1, job.steps + 1):
        updates.append(Progress(step, job.steps))
        if step in previews:
            updates.append(Preview(previews[step], rendered(job, (100, 100, 100))))
    return [*updates, Completed(rendered(job))]


class ScriptedPool:
    """A :class:`~server.pool.base.DiffusionPool` that draws what its script says.

    Args:
        jobs: one script for each job, in order: items, or a function from the job to them. Jobs past the last one
            follow :func:`drawing`.
        load: what :meth:`load` tells.

    Attributes:
        jobs: all jobs that came.
        record: ids of the jobs: running, finished, aborted (closed early or cancelled).
    """

    def __init__(
        self,
        jobs: Sequence[Sequence[JobItem] | Callable[[RenderJob], Sequence[JobItem]]] = (),
        load: PoolLoad | None = None,
    ) -> None:
        self.jobs: list[RenderJob] = []
        self.record = Recorded()
        self.dead = False
        self.current_load = load or PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=1)
        self._scripts = list(jobs)
        self._cancelled: dict[str, asyncio.Event] = {}

    async def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        number = len(self.jobs)
        self.jobs.append(job)
        script = self._scripts[number] if number < len(self._scripts) else drawing
        items = script(job) if callable(script) else script
        cancelled = self._cancelled[job.id] = asyncio.Event()
        self.record.running.append(job.id)
        try:
            for item in items:
                if isinstance(item, Gate):
                    await self._wait(item, cancelled)
                if cancelled.is_set():
                    raise RenderError("cancelled", "the job was cancelled")
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, Completed):
                    self.record.finished.append(job.id)
                if not isinstance(item, Gate):
                    yield item
        finally:
            self.record.running.remove(job.id)
            if job.id not in self.record.finished:
                self.record.aborted.append(job.id)

    @staticmethod
    async def _wait(gate: Gate, cancelled: asyncio.Event) -> None:
        waits = {asyncio.ensure_future(gate.wait()), asyncio.ensure_future(cancelled.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def cancel(self, job_id: str) -> None:
        if job_id in self.record.running:
            self._cancelled[job_id].set()

    async def load(self) -> PoolLoad:
        return self.current_load

    async def health(self) -> None:
        if self.dead:
            raise PoolDeadError("the scripted pool is dead")
