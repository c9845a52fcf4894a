"""The real service in this process, brought to a chosen state of an answer, and held there.

vLLM is real and stops because its process is stopped; workers are real and stop halfway through a picture. So an answer
stays where it is for as long as a test wants, and goes on when :meth:`Stage.let_go` is called.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import torch

from models.diffusion.description import DecoderDescription
from server.app import create_app
from server.backend import Backend, TextDefaults
from server.http_server import HTTPServer
from server.llm.engine import Priority, Prompt, Sampling
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.service import Service
from server.settings import DEFAULT_CHECKPOINT, Settings
from server.vllm_backend import drawing_defaults, open_redis_pool
from tests.faults.answer import Answer
from tests.faults.vllm_process import VLLMProcess
from tests.pool.faults.fleet import Brake
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually
from tests.vllm.reference import count_waiting_states, random_prompt

DRAW = {
    "input": "Draw two pictures: a red circle, then a blue star.",
    "temperature": 0,
    "seed": 7,
    "images": {"max": 1, "steps": 8},
}
LONG_PROMPT = "Draw a red circle. " * 20


class StoppableEngine:
    """The real engine, which can be told to stop at the next dream token.

    Args:
        engine: the real one.
        vllm: its process.
    """

    def __init__(self, engine: VLLMEngine, vllm: VLLMProcess) -> None:
        self._engine = engine
        self._vllm = vllm
        self.stops_at_dream = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        if self.stops_at_dream:
            self.stops_at_dream = False
            self._vllm.freeze()
        return await self._engine.dream_states(request_id, prompt, priority)


@dataclass
class Stage:
    """A running service.

    Attributes:
        client: sends requests to it.
        service: it.
        serving: done when its HTTP server has stopped.
        engine: its language model.
        vllm: the process of that.
        brake: holds up pictures.
        line: of the pool.
        answers: all that were asked for.
    """

    client: httpx.AsyncClient
    service: Service
    serving: asyncio.Task[None]
    engine: StoppableEngine
    vllm: VLLMProcess
    brake: Brake
    line: Line
    answers: list[Answer] = field(default_factory=list)

    def ask(self, body: dict[str, Any]) -> Answer:
        """Ask for a document."""
        self.answers.append(Answer(self.client, body))
        return self.answers[-1]

    async def ready(self) -> None:
        """Wait until documents with pictures can be made."""
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self.client.get("/health/ready")).is_success

    async def until_requested(self) -> None:
        """Wait until vLLM has one request."""
        await eventually(lambda: self.engine.llm.get_num_unfinished_requests() == 1)

    def let_go(self) -> None:
        """All that was held goes on."""
        self.vllm.thaw()
        self.brake.release()

    async def prefill(self) -> Answer:
        """An answer whose context vLLM has been given."""
        self.vllm.freeze()
        answer = self.ask({**DRAW, "input": LONG_PROMPT})
        await self.until_requested()
        return answer

    async def text(self) -> Answer:
        """An answer in the middle of its text."""
        answer = self.ask(endless(self.engine.eos_token_id, max_tokens=400))
        await answer.until("text.delta")
        self.vllm.freeze()
        assert not answer.has_ended
        return answer

    async def dream_states(self) -> Answer:
        """An answer that waits for the dream states of its first picture."""
        self.engine.stops_at_dream = True
        answer = self.ask(DRAW)
        await eventually(lambda: not self.engine.stops_at_dream)
        await self.until_requested()
        return answer

    async def queued(self) -> Answer:
        """An answer whose picture waits in line, behind that of another answer."""
        self.brake.hold()
        await self.ask(DRAW).until("image.progress")
        answer = self.ask(DRAW)
        await answer.until("image.queued")
        await eventually(self._one_is_held_of_two)
        return answer

    async def rendering(self) -> Answer:
        """An answer whose picture is half drawn."""
        self.brake.hold()
        answer = self.ask(DRAW)
        await answer.until("image.progress")
        return answer

    async def feedback(self) -> Answer:
        """An answer whose first picture vLLM has been given to read."""
        answer = await self.rendering()
        self.vllm.freeze()
        self.brake.release()
        await answer.until("image.completed")
        await self.until_requested()
        return answer

    async def _one_is_held_of_two(self) -> bool:
        return len(await self.line.open_jobs()) == 2 and await self.line.held() == 1


Reach = Callable[[Stage], Awaitable[Answer]]
OpenStage = Callable[..., AbstractAsyncContextManager[Stage]]
STATES: dict[str, Reach] = {
    "prefill": Stage.prefill,
    "text": Stage.text,
    "dream states": Stage.dream_states,
    "queued": Stage.queued,
    "rendering": Stage.rendering,
    "feedback": Stage.feedback,
}
"""What an answer is doing, and how to bring one there."""


def endless(eos_token_id: int, max_tokens: int) -> dict[str, Any]:
    """A request for text that ends for nothing but its length."""
    return {
        "input": "Tell me a story.",
        "temperature": 0,
        "max_tokens": max_tokens,
        "logit_bias": {str(eos_token_id): -100},
        "images": {"max": 0},
    }


async def check_nothing_runs(engine: VLLMEngine) -> None:
    """Fail if vLLM has a request, or keeps dream states that nobody will fetch."""
    assert engine.llm.get_num_unfinished_requests() == 0
    # vLLM tells its load with what it sends, so it has to be asked something. On a busy machine that may come at once.
    loads: set[tuple[int, int]] = set()
    while not loads:
        async for _ in engine.generate("probe", random_prompt(8, seed=0), Sampling(max_tokens=16)):
            if engine.llm.get_num_unfinished_requests():
                loads.add((engine.load().running, engine.load().waiting))
    assert loads == {(1, 0)}
    assert await count_waiting_states(engine) == 0


@asynccontextmanager
async def staged(engine: VLLMEngine, brake: Brake, line: Line, **settings: dict[str, Any]) -> AsyncIterator[Stage]:
    """The service, ready, on a socket of this machine.

    Args:
        engine: its language model; what it remembers of earlier tests is forgotten.
        brake: of its workers.
        line: of its pool.
        settings: of the server.
    """
    vllm = VLLMProcess.of_engine(engine)
    stoppable = StoppableEngine(engine, vllm)
    prompts = PromptBuilder(engine)
    description = DecoderDescription.from_pretrained(DEFAULT_CHECKPOINT / "diffusion")

    @asynccontextmanager
    async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
        empty_prompt = await engine.dream_states("empty-prompt", prompts.build_negative(""))
        async with open_redis_pool(settings, description, empty_prompt) as pool:
            text = TextDefaults.from_checkpoint(DEFAULT_CHECKPOINT)
            yield Backend(stoppable, prompts, pool, drawing_defaults(description), text, draws_here=False)

    settings["server"] = {"port": 0, **settings.get("server", {})}
    app = create_app(Settings(auth={"enabled": False}, **settings), open_backend)
    service: Service = app.state.service
    announced = asyncio.get_running_loop().create_future()
    server = HTTPServer(app, service, on_ready=announced.set_result)
    serving = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(base_url=await announced, timeout=None) as client:  # noqa: S113
        stage = Stage(client, service, serving, stoppable, vllm, brake, line)
        engine.dream_cache.clear()
        await stage.ready()
        try:
            yield stage
        finally:
            stage.let_go()
            server.should_exit = True
            await serving
