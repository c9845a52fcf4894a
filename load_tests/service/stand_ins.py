"""A language model and a pool that cost next to nothing: for load on all that stands between callers and them.

Both take a moment between one step and the next, so that callers can leave, cancel and fall behind in every state.
Neither keeps anything of what has ended: what grows is the server's.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import torch

from server.backend import Backend, DrawingDefaults
from server.llm.engine import EngineLoad, Priority, Prompt, Sampling, TokenChunk
from server.llm.prompt import PromptBuilder, expanded_length
from server.pool.base import Completed, ImageUpdate, PoolLoad, Preview, Progress, Queued, RenderError, RenderJob
from server.settings import Settings
from tests.scripted.engine import scripted_logprobs
from tests.scripted.pool import rendered
from tests.scripted.tokenizer import VICUNA_TEMPLATE, byte_tokenizer, tiny_config, token_id

WORDS = ("red", "circle", "below", "a", "star", "né", "雪", "🙂", "big.", "\n", "<b>", "and")
MAX_MODEL_LEN = 1024
PICTURE_SHARE = 0.6
"""Of the turns that may end with a picture, those that do."""
CHUNK = 4
STEPS_PER_S = 500.0
DRAWING = DrawingDefaults(64, 64, size_multiple=16, steps=4, guidance_scale=3.0, scheduler="ddpm")


class TalkingEngine:
    """An :class:`~server.llm.engine.LLMEngine` that says random words and asks for pictures now and then.

    Args:
        chunk_s: time from one chunk of tokens to the next.
    """

    def __init__(self, chunk_s: float = 0.002) -> None:
        self.tokenizer = byte_tokenizer()
        self.config = tiny_config(self.tokenizer)
        self.chat_template = VICUNA_TEMPLATE
        self.eos_token_id = token_id(self.tokenizer, "</s>")
        self.max_model_len = MAX_MODEL_LEN
        self.kv_tokens = 64 * MAX_MODEL_LEN
        # Encoded once: a tokenizer keeps what it is given, word by word.
        self._vocabulary = [self.tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in WORDS]
        self._chunk_s = chunk_s
        self._running = 0

    def check(self, sampling: Sampling) -> None:
        """It can sample in every way."""

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        """See :meth:`~server.llm.engine.LLMEngine.generate`."""
        length = expanded_length(prompt, self.config)
        limit = min(sampling.max_tokens, self.max_model_len - length)
        turn = self._turn(sampling, limit)
        reason = "stop" if turn[-1] in sampling.stop_token_ids else "length"
        self._running += 1
        try:
            for begin in range(0, len(turn), CHUNK):
                await asyncio.sleep(self._chunk_s)
                ids = turn[begin : begin + CHUNK]
                logprobs = () if sampling.logprobs is None else scripted_logprobs(ids, sampling.logprobs)
                last = begin + CHUNK >= len(turn)
                yield TokenChunk(ids, reason if last else None, length, logprobs=logprobs)  # type: ignore[arg-type]
        finally:
            self._running -= 1

    def _turn(self, sampling: Sampling, limit: int) -> tuple[int, ...]:
        """All that one call samples, its stop token included; at least one token."""
        dice = random.Random(sampling.seed)
        ids: list[int] = []
        while len(ids) < limit:
            ids += itertools.chain.from_iterable(dice.choices(self._vocabulary, k=6))
            ends = [self.config.dream_token_id] if dice.random() < PICTURE_SHARE else []
            for end in (*ends, self.eos_token_id):
                if end in sampling.stop_token_ids and end not in sampling.banned_token_ids:
                    return (*ids[: limit - 1], end)
        return tuple(ids[:limit])

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        """See :meth:`~server.llm.engine.LLMEngine.dream_states`."""
        await asyncio.sleep(self._chunk_s)
        return torch.zeros(self.config.num_dream_queries, self.config.text_config.hidden_size)

    async def abort(self, request_id: str) -> None:
        """Whoever closes a call has done that already."""

    def load(self) -> EngineLoad:
        """See :meth:`~server.llm.engine.LLMEngine.load`."""
        return EngineLoad(running=self._running)

    async def health(self) -> None:
        """It never dies."""


class PaintingPool:
    """A :class:`~server.pool.base.DiffusionPool` that paints in one colour, as many pictures as are wanted at once."""

    def __init__(self) -> None:
        self._cancelled: dict[str, asyncio.Event] = {}

    async def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        """See :meth:`~server.pool.base.DiffusionPool.render`."""
        dice = random.Random(job.seed)
        colour = (dice.randrange(256), dice.randrange(256), dice.randrange(256))
        cancelled = self._cancelled[job.id] = asyncio.Event()
        previews = {job.steps * (i + 1) // (job.previews + 1): i for i in range(job.previews)}
        try:
            yield Queued(0, job.steps / STEPS_PER_S)
            for step in range(1, job.steps + 1):
                await asyncio.sleep(1 / STEPS_PER_S)
                if cancelled.is_set():
                    raise RenderError("cancelled", "the job was cancelled")
                yield Progress(step, job.steps)
                if step in previews:
                    yield Preview(previews[step], await asyncio.to_thread(rendered, job, colour))
            yield Completed(await asyncio.to_thread(rendered, job, colour))
        finally:
            del self._cancelled[job.id]

    async def cancel(self, job_id: str) -> None:
        """See :meth:`~server.pool.base.DiffusionPool.cancel`."""
        if job_id in self._cancelled:
            self._cancelled[job_id].set()

    async def load(self) -> PoolLoad:
        """See :meth:`~server.pool.base.DiffusionPool.load`."""
        running = len(self._cancelled)
        return PoolLoad(0, running, running / STEPS_PER_S, workers_alive=1, steps_per_s=STEPS_PER_S)

    async def health(self) -> None:
        """It never dies."""


@asynccontextmanager
async def open_stand_ins(_: Settings) -> AsyncIterator[Backend]:
    """A backend of both."""
    engine = TalkingEngine()
    yield Backend(engine, PromptBuilder(engine), PaintingPool(), DRAWING)
