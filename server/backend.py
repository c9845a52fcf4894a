"""What makes the documents: the language model and the pool of diffusion workers, opened and closed together."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

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
class SamplingDefaults:
    """How text is sampled when neither a request nor the checkpoint says. See :class:`~server.llm.engine.Sampling`."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Backend:
    """A running model.

    Attributes:
        engine: the language model.
        prompts: builds its contexts.
        pool: draws its pictures.
        drawing: how, by default.
        sampling: how text is sampled, by default.
    """

    engine: LLMEngine
    prompts: PromptBuilder
    pool: DiffusionPool
    drawing: DrawingDefaults
    sampling: SamplingDefaults = SamplingDefaults()


OpenBackend = Callable[[Settings], AbstractAsyncContextManager[Backend]]


async def warm_up(backend: Backend) -> None:
    """Answer one small request through every part: text, dream states, a picture.

    Raises:
        EngineError: the language model cannot serve.
        RenderError: no picture can be drawn.
    """
    prompt = backend.prompts.build_negative("a picture")
    sampling = Sampling(max_tokens=4, temperature=0.0)
    async for _ in backend.engine.generate("warm-up", prompt, sampling):
        pass
    states = await backend.engine.dream_states("warm-up-dream", prompt)
    drawing = backend.drawing
    job = RenderJob(
        id="warm-up",
        states=states,
        negative_states=None,
        width=drawing.width,
        height=drawing.height,
        steps=2,
        guidance_scale=drawing.guidance_scale,
        scheduler=drawing.scheduler,
        seed=0,
    )
    async for _ in backend.pool.render(job):
        pass
