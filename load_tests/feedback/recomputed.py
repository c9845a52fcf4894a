"""Tokens that are computed again after a picture, by the real server over a pool that draws at once.

After a picture the context is what it was before, dream block included, and the picture's own tokens. The latter are
new; of the former vLLM's prefix cache holds the blocks that were full. What is left of them is computed again.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import torch

from load_tests.results import Results
from load_tests.service.stand_ins import DRAWING, PaintingPool
from server.app import create_app
from server.availability import State
from server.backend import Backend
from server.llm.engine import EngineLoad, Priority, Prompt, Sampling, TokenChunk
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.settings import AdmissionSettings, AuthSettings, LogSettings, Settings

PROMPTS = (
    "Draw two pictures: a red circle, then a blue star.",
    "Tell me a story about a purple star.",
    "Draw a green square, then a yellow circle, then a pink star.",
)
MAX_IMAGES = 4
POLL_S = 0.1
LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Continuation:
    """An engine request that went on after a picture.

    Attributes:
        context: tokens before the picture, dream block included.
        recomputed: of these.
        new: tokens of the picture.
    """

    context: int
    recomputed: int
    new: int


@dataclass
class RecordedEngine:
    """vLLM, and what its prefix cache had of requests that end with a picture."""

    engine: VLLMEngine
    continuations: list[Continuation] = field(default_factory=list)

    def __post_init__(self) -> None:
        engine = self.engine
        self.config, self.tokenizer, self.chat_template = engine.config, engine.tokenizer, engine.chat_template
        self.eos_token_id, self.max_model_len, self.kv_tokens = (
            engine.eos_token_id,
            engine.max_model_len,
            engine.kv_tokens,
        )

    def check(self, sampling: Sampling) -> None:
        """See :meth:`~server.llm.engine.LLMEngine.check`."""
        self.engine.check(sampling)

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        """See :meth:`~server.llm.engine.LLMEngine.generate`."""
        shown = prompt.token_ids[-1] == self.config.image_end_token_id
        async for chunk in self.engine.generate(request_id, prompt, sampling, priority):
            if shown:
                new = len(self.config.image_block) - 1 + self.config.num_image_tokens
                context = chunk.prompt_tokens - new
                self.continuations.append(Continuation(context, max(0, context - chunk.cached_tokens), new))
                shown = False
            yield chunk

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        """See :meth:`~server.llm.engine.LLMEngine.dream_states`."""
        return await self.engine.dream_states(request_id, prompt, priority)

    async def abort(self, request_id: str) -> None:
        """See :meth:`~server.llm.engine.LLMEngine.abort`."""
        await self.engine.abort(request_id)

    def load(self) -> EngineLoad:
        """See :meth:`~server.llm.engine.LLMEngine.load`."""
        return self.engine.load()

    async def health(self) -> None:
        """See :meth:`~server.llm.engine.LLMEngine.health`."""
        await self.engine.health()


async def measure(results: Results, engine: VLLMEngine, block_size: int, documents: int) -> None:
    """Have documents made, one at a time and then all at once, and report."""
    rows = []
    most = 0
    for together in (1, documents):
        continuations = await _continuations(engine, documents, together)
        recomputed = [each.recomputed for each in continuations]
        context = sum(each.context for each in continuations)
        most = max(most, *recomputed)
        rows.append(
            (
                together,
                len(continuations),
                context / len(continuations),
                continuations[0].new,
                sum(recomputed) / len(recomputed),
                max(recomputed),
                sum(recomputed) / context,
            )
        )
    results.table(
        f"Tokens computed again after a picture (KV blocks of {block_size})",
        (
            "documents together",
            "pictures",
            "context before, mean",
            "new tokens of a picture",
            "recomputed, mean",
            "recomputed, most",
            "of the context",
        ),
        rows,
    )
    results.at_most("feedback_recomputed_tokens_most", most, block_size)


async def _continuations(engine: VLLMEngine, documents: int, together: int) -> list[Continuation]:
    recorded = RecordedEngine(engine)
    places = asyncio.Semaphore(together)
    async with _serving(recorded) as client, asyncio.TaskGroup() as asking:

        async def ask(number: int) -> None:
            body = {
                "input": PROMPTS[number % len(PROMPTS)],
                "seed": 1000 * together + number,
                "images": {"max": MAX_IMAGES, "feedback": "image"},
            }
            async with places:
                (await client.post("/v1/interleaved", json=body)).raise_for_status()

        for number in range(documents):
            asking.create_task(ask(number))
    if not recorded.continuations:
        raise RuntimeError("the model has asked for no picture")
    return recorded.continuations


@asynccontextmanager
async def _serving(engine: RecordedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A server over this engine, without a socket, and a client of it."""

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        yield Backend(engine, PromptBuilder(engine), PaintingPool(), DRAWING)

    settings = Settings(
        auth=AuthSettings(enabled=False), log=LogSettings(level="warning"), admission=AdmissionSettings()
    )
    app = create_app(settings, open_backend)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dreamserve", timeout=LIMIT_S) as client,
    ):
        while not (await client.get("/health/ready")).is_success:
            if app.state.service.state is State.FAILED:
                raise RuntimeError("the service has failed: its log says why")
            await asyncio.sleep(POLL_S)
        yield client
