"""The hand-off: from a dream token to the first denoising step of its picture.

Timed is what lies between two moments, in which DreamServe itself works and nothing else: the language model is about
to hand out the chunk that ends in the dream token; the UNet is about to be called for the first time over that picture.
Between them are the interceptor, the image part and its events, the image job, its way through the pool (with Redis:
encoding, queue, the worker's process, decoding), and its preparation: noise, scheduler, projected conditions.

The server is the real one, asked over its HTTP interface, whose answer streams meanwhile. Only the language model is a
stand-in: its own step, which fetches the dream states, takes no time, because :class:`DreamingEngine` has them ready,
in the size of the published model. The pool is idle when the token comes.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import torch
from tokenizers import Tokenizer

from load_tests.pool.bench import Bench
from load_tests.pool.model import ModelSpec, random_decoder
from load_tests.pool.pools import local_pool, redis_pool
from load_tests.pool.unet_calls import UNetCalls
from models.diffusion.decoder import DiffusionDecoder
from models.dreamllm.configuration import DreamLLMConfig
from server.app import create_app
from server.backend import Backend, DrawingDefaults
from server.llm.engine import EngineLoad, Priority, Prompt, Sampling, TokenChunk
from server.llm.prompt import PromptBuilder
from server.pool.base import DiffusionPool
from server.settings import DEFAULT_CHECKPOINT, AuthSettings, Settings

PUBLISHED_STATES = (64, 4096)
GOALS_MS = {"local": 15.0, "redis": 25.0}
STEPS = 2
GUIDANCE_SCALE = 3.5
WARM_UP = 3
SILENCE_S = 0.05
POLL_S = 0.05


class DreamingEngine:
    """An :class:`~server.llm.engine.LLMEngine` whose answers are some text, one picture, and nothing more.

    Attributes:
        dreamt_at: ``time.perf_counter()`` at the latest dream token.
    """

    def __init__(self, checkpoint: Path, states: torch.Tensor) -> None:
        self.config = DreamLLMConfig.from_pretrained(checkpoint)
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.chat_template = (checkpoint / "chat_template.jinja").read_text()
        self.eos_token_id: int = self.config.text_config.eos_token_id
        self.max_model_len: int = self.config.text_config.max_position_embeddings
        self.kv_tokens = self.max_model_len
        self.dreamt_at = 0.0
        self._text = tuple(self.tokenizer.encode("A picture of it:", add_special_tokens=False).ids)
        self._states = states

    def check(self, sampling: Sampling) -> None:
        """Any way of sampling will do."""

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        """Text and the dream token; after a picture, the end."""
        if self.config.dream_token_id in prompt.token_ids:
            yield TokenChunk((self.eos_token_id,), "stop", len(prompt.token_ids))
            return
        yield TokenChunk(self._text, None, len(prompt.token_ids))
        self.dreamt_at = time.perf_counter()
        yield TokenChunk((self.config.dream_token_id,), "stop", len(prompt.token_ids))

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        """The states that were given, at once."""
        return self._states

    async def abort(self, request_id: str) -> None:
        """Requests end by themselves."""

    def load(self) -> EngineLoad:
        """Nothing to do."""
        return EngineLoad()

    async def health(self) -> None:
        """Always well."""


async def measure(bench: Bench) -> None:
    """Measure both pools by turns, answer by answer, and print."""
    spec = ModelSpec(states_shape=PUBLISHED_STATES)
    calls = {name: UNetCalls(bench.folder / f"handoff-{name}") for name in GOALS_MS}
    decoder = random_decoder(spec, bench.decoder.device, calls["local"])
    engine = DreamingEngine(DEFAULT_CHECKPOINT, spec.states().to(torch.bfloat16))
    taken_ms: dict[str, list[float]] = {name: [] for name in GOALS_MS}
    async with (
        local_pool(decoder, spec) as local,
        redis_pool(bench.redis_url, "handoff", decoder, spec, calls["redis"].path) as remote,
        _serving(engine, local, decoder) as local_server,
        _serving(engine, remote, decoder) as remote_server,
    ):
        servers = {"local": local_server, "redis": remote_server}
        for _ in range(WARM_UP + bench.scale.answers):
            for name, server in servers.items():
                await calls[name].fall_silent(SILENCE_S)
                first = len(calls[name])
                answer = await server.post("/v1/interleaved", json={"input": "Draw something.", "stream": True})
                answer.raise_for_status()
                begun_at = calls[name].read(first)["started"][0]
                taken_ms[name].append(1000 * float(begun_at - engine.dreamt_at))
    bench.results.table(
        "From a dream token to the first denoising step",
        ("pool", "pictures", "p5, ms", "p50, ms", "p90, ms"),
        [
            (name, bench.scale.answers, *map(float, np.percentile(values[WARM_UP:], [5, 50, 90])))
            for name, values in taken_ms.items()
        ],
    )
    for name, goal_ms in GOALS_MS.items():
        bench.results.at_most(f"handoff_{name}_p50_ms", statistics.median(taken_ms[name][WARM_UP:]), goal_ms)


@asynccontextmanager
async def _serving(
    engine: DreamingEngine, pool: DiffusionPool, decoder: DiffusionDecoder
) -> AsyncIterator[httpx.AsyncClient]:
    """A server with this pool, without a socket, and a client of it."""
    side = decoder.image_size
    drawing = DrawingDefaults(side, side, decoder.description.size_multiple, STEPS, GUIDANCE_SCALE, "ddim")

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        yield Backend(engine, PromptBuilder(engine), pool, drawing)

    app = create_app(Settings(auth=AuthSettings(enabled=False)), open_backend)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dreamserve") as client,
    ):
        while not (await client.get("/health/ready")).is_success:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        yield client
