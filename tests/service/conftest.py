"""The real service on the embedded checkpoint: real vLLM, a real diffusion engine, a real socket."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest_asyncio
from httpx_sse import ServerSentEvent, aconnect_sse

from models.diffusion.decoder import DiffusionDecoder
from server.app import create_app
from server.backend import Backend, TextDefaults
from server.http_server import HTTPServer
from server.llm.engine import Priority, Prompt, Sampling, TokenChunk
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.pool.local import LocalPool
from server.settings import DEFAULT_CHECKPOINT, Settings
from server.vllm_backend import drawing_defaults
from tests.tiny_diffusion import EVERY_PREVIEW


class RecordingEngine:
    """The real engine, with a record of what it sampled."""

    def __init__(self, engine: VLLMEngine) -> None:
        self._engine = engine
        self.sampled: dict[str, list[int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        ids = self.sampled.setdefault(request_id, [])
        stream = self._engine.generate(request_id, prompt, sampling, priority)
        try:
            async for chunk in stream:
                ids += chunk.token_ids
                yield chunk
        finally:
            await stream.aclose()


@dataclass
class Service:
    """A running service.

    Attributes:
        client: sends requests to it.
        engine: its language model.
        pool: its diffusion engine.
    """

    client: httpx.AsyncClient
    engine: RecordingEngine = field(repr=False)
    pool: LocalPool = field(repr=False)

    async def document(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole document."""
        response = await self.client.post("/v1/interleaved", json=body)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    async def events(self, body: dict[str, Any]) -> list[ServerSentEvent]:
        """All events of a streamed document."""
        async with aconnect_sse(self.client, "POST", "/v1/interleaved", json={**body, "stream": True}) as source:
            assert source.response.status_code == 200, (await source.response.aread()).decode()
            return [event async for event in source.aiter_sse()]


@pytest_asyncio.fixture(scope="session")
async def service(engine: VLLMEngine) -> AsyncIterator[Service]:
    decoder = DiffusionDecoder.from_pretrained(DEFAULT_CHECKPOINT / "diffusion")
    recording = RecordingEngine(engine)
    pool = LocalPool(decoder, preview_share=EVERY_PREVIEW)
    prompts = PromptBuilder(engine)
    pool.start(await engine.dream_states("empty-prompt", prompts.build_negative("")))

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        text = TextDefaults.from_checkpoint(DEFAULT_CHECKPOINT)
        yield Backend(recording, prompts, pool, drawing_defaults(decoder.description), text)

    app = create_app(Settings(server={"port": 0}, auth={"enabled": False}), open_backend)
    announced = asyncio.get_running_loop().create_future()
    server = HTTPServer(app, app.state.service, on_ready=announced.set_result)
    serving = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(base_url=await announced, timeout=120) as client:
        yield Service(client, recording, pool)
    server.should_exit = True
    await serving
    await pool.close(drain_s=0)
