"""The backend of one machine: vLLM, and a diffusion engine in this process. Slow to import, as vLLM is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import torch
from transformers import GenerationConfig

from models.diffusion.decoder import DiffusionDecoder
from server.backend import Backend, DrawingDefaults, SamplingDefaults
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.llm.vllm_settings import VLLMSettings
from server.pool.local import LocalPool
from server.settings import DiffusionSettings, Settings


@asynccontextmanager
async def open_local_backend(settings: Settings) -> AsyncIterator[Backend]:
    """vLLM, and a diffusion engine in this process.

    Raises:
        EngineError: vLLM did not start.
        OSError: the checkpoint is incomplete.
        RenderError: the diffusion engine could not draw.
    """
    engine = await VLLMEngine.start(VLLMSettings(model=settings.model.path, **settings.llm.model_dump()))
    try:
        device, dtype = device_and_dtype(settings.diffusion)
        decoder = await asyncio.to_thread(
            DiffusionDecoder.from_pretrained, settings.model.path / "diffusion", device, dtype
        )
        pool = LocalPool(
            decoder,
            max_batch=settings.diffusion.max_batch,
            max_decode_batch=settings.diffusion.max_decode_batch,
        )
        prompts = PromptBuilder(engine)
        await pool.start(await engine.dream_states("empty-prompt", prompts.build_negative("")))
        try:
            sampling = sampling_defaults(settings.model.path)
            yield Backend(engine, prompts, pool, drawing_defaults(decoder), sampling)
        finally:
            await pool.close(drain_s=0)
    finally:
        await engine.shutdown()


def drawing_defaults(decoder: DiffusionDecoder) -> DrawingDefaults:
    """What the checkpoint recommends."""
    return DrawingDefaults(
        width=decoder.image_size,
        height=decoder.image_size,
        size_multiple=decoder.size_multiple,
        steps=decoder.sampling.steps,
        guidance_scale=decoder.sampling.guidance_scale,
        scheduler=decoder.sampling.scheduler,
    )


def sampling_defaults(checkpoint: Path) -> SamplingDefaults:
    """What the checkpoint's generation config recommends, as vLLM's own server does."""
    given = GenerationConfig.from_pretrained(checkpoint)
    names = ("temperature", "top_p", "top_k")
    return SamplingDefaults(**{name: value for name in names if (value := getattr(given, name)) is not None})


def device_and_dtype(settings: DiffusionSettings) -> tuple[torch.device, torch.dtype | None]:
    """Where the diffusion engine computes, and in what; None leaves the dtype to the decoder."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: torch.dtype | None = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return torch.device(name), dtype
