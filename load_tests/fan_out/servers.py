"""``python -m load_tests.fan_out.servers ours|bare PORT``: one of the servers, as a process."""

import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import torch
import uvicorn
from fastapi import FastAPI
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from load_tests.fan_out.ticks import Ticks, load_tokenizer, words
from load_tests.service.stand_ins import DRAWING, PaintingPool
from models.dreamllm.configuration import DreamLLMConfig
from server.app import create_app
from server.backend import Backend
from server.http_server import HTTPServer
from server.llm.engine import EngineLoad, Priority, Prompt, Sampling, TokenChunk
from server.llm.prompt import PromptBuilder, expanded_length
from server.settings import DEFAULT_CHECKPOINT, AdmissionSettings, AuthSettings, LogSettings, ServerSettings, Settings

HOST = "127.0.0.1"
MAX_READERS = 10_000
MAX_MODEL_LEN = 2**20


class TickingEngine:
    """An :class:`~server.llm.engine.LLMEngine` that samples the tokens of a clock."""

    def __init__(self, ticks: Ticks) -> None:
        self.config = DreamLLMConfig.from_pretrained(DEFAULT_CHECKPOINT)
        self.tokenizer = load_tokenizer()
        self.chat_template = (DEFAULT_CHECKPOINT / "chat_template.jinja").read_text()
        self.eos_token_id: int = self.config.text_config.eos_token_id
        self.max_model_len = MAX_MODEL_LEN
        self.kv_tokens = MAX_READERS * MAX_MODEL_LEN
        self._ticks = ticks
        self._ids = tuple(words(self.tokenizer).values())

    def check(self, sampling: Sampling) -> None:
        """Any way of sampling will do."""

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        """See :meth:`~server.llm.engine.LLMEngine.generate`."""
        length = expanded_length(prompt, self.config)
        left = sampling.max_tokens
        async for ticks in self._ticks.listen():
            ids = tuple([self._ids[tick % len(self._ids)] for tick in ticks[:left]])
            left -= len(ids)
            yield TokenChunk(ids, None if left else "length", length)
            if not left:
                return

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        """See :meth:`~server.llm.engine.LLMEngine.dream_states`."""
        return torch.zeros(self.config.num_dream_queries, self.config.text_config.hidden_size)

    async def abort(self, request_id: str) -> None:
        """Whoever closes a call has done that already."""

    def load(self) -> EngineLoad:
        """See :meth:`~server.llm.engine.LLMEngine.load`."""
        return EngineLoad()

    async def health(self) -> None:
        """It never dies."""


def our_app(port: int) -> FastAPI:
    """The server as it is."""

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        ticks = Ticks()
        engine = TickingEngine(ticks)
        async with ticks.running():
            yield Backend(engine, PromptBuilder(engine), PaintingPool(), DRAWING)

    settings = Settings(
        server=ServerSettings(host=HOST, port=port),
        auth=AuthSettings(enabled=False),
        admission=AdmissionSettings(max_running=MAX_READERS, max_waiting=MAX_READERS),
        log=LogSettings(level="warning"),
    )
    return create_app(settings, open_backend)


def bare_app() -> Starlette:
    """The obvious loop: events of the same bytes, and nothing else."""
    ticks = Ticks()
    texts = [f" {word}" for word in words(load_tokenizer())]

    async def document(request: Request) -> Response:
        await request.json()

        async def events() -> AsyncIterator[ServerSentEvent]:
            number = 0
            async for taken in ticks.listen():
                text = "".join([texts[tick % len(texts)] for tick in taken])
                event = {"sequence": number, "part": 0, "type": "text.delta", "text": text}
                data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
                yield ServerSentEvent(data, event="text.delta", id=str(number), sep="\n")
                number += 1

        return EventSourceResponse(events(), sep="\n")

    async def ready(_: Request) -> Response:
        return Response()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with ticks.running():
            yield

    routes = [Route("/v1/interleaved", document, methods=["POST"]), Route("/health/ready", ready)]
    return Starlette(routes=routes, lifespan=lifespan)


def serve_ours(port: int) -> None:
    """Ours on its own HTTP server."""
    app = our_app(port)
    HTTPServer(app, app.state.service, on_ready=lambda _: None).run()


def serve_bare(port: int) -> None:
    """The other on uvicorn."""
    uvicorn.run(bare_app(), host=HOST, port=port, log_config=None, access_log=False)


SERVERS: dict[str, Callable[[int], None]] = {"ours": serve_ours, "bare": serve_bare}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
