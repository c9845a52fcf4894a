"""What makes the documents: the language model and the pool of diffusion workers, opened and closed together."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from server.llm.engine import LLMEngine, Sampling
from server.llm.prompt import PromptBuilder
from server.pool.base import DiffusionPool, RenderJob, SchedulerName
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class DrawingDefaults:
    """How pictures are drawn when a request does not say.

    Attributes:
        width: in pixels.
        height: in pixels.
        size_multiple: what both must be a multiple of.
        steps: denoising steps.
        guidance_scale: 1 or less draws without guidance.
        scheduler: the sampler.
    """

    width: int
    height: int
    size_multiple: int
    steps: int
    guidance_scale: float
    scheduler: SchedulerName


@dataclass(frozen=True, slots=True)
class TextDefaults:
    """How text is sampled when neither a request nor the checkpoint says. See :class:`~server.llm.engine.Sampling`."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def from_checkpoint(cls, checkpoint: Path) -> Self:
        """What the checkpoint's ``generation_config.json`` recommends, if it has one, as vLLM's own server does.

        Raises:
            ValueError: the file is not JSON.
        """
        file = checkpoint / "generation_config.json"
        config: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        given = {field.name: config[field.name] for field in fields(cls) if config.get(field.name) is not None}
        greedy = {"temperature": 0.0} if config.get("do_sample") is False else {}
        return cls(**{**greedy, **given})


@dataclass(frozen=True, slots=True)
class Backend:
    """A running model.

    Attributes:
        engine: the language model.
        prompts: builds its contexts.
        pool: draws its pictures.
        drawing: how, by default.
        text: how text is sampled, by default.
        draws_here: whether the pool draws in this process, and is warmed up by it. Others see to that themselves.
    """

    engine: LLMEngine
    prompts: PromptBuilder
    pool: DiffusionPool
    drawing: DrawingDefaults
    text: TextDefaults = TextDefaults()
    draws_here: bool = True


WARM_UP_STEPS = 3  # a median of three: the first step, slow on most devices, does not count

OpenBackend = Callable[[Settings], AbstractAsyncContextManager[Backend]]


async def warm_up(backend: Backend) -> None:
    """Answer one small request through every part: text, dream states, a picture. The pool learns its speed from it.

    Raises:
        EngineError: the language model cannot serve.
        RenderError: no picture can be drawn.
    """
    prompt = backend.prompts.build_negative("a picture")
    sampling = Sampling(max_tokens=4, temperature=0.0)
    async for _ in backend.engine.generate("warm-up", prompt, sampling):
        pass
    states = await backend.engine.dream_states("warm-up-dream", prompt)
    if not backend.draws_here:
        return
    drawing = backend.drawing
    job = RenderJob(
        id="warm-up",
        states=states,
        negative_states=None,
        width=drawing.width,
        height=drawing.height,
        steps=WARM_UP_STEPS,
        guidance_scale=drawing.guidance_scale,
        scheduler=drawing.scheduler,
        seed=0,
    )
    async for _ in backend.pool.render(job):
        pass
