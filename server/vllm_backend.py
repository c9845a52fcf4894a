"""The backend of one machine: vLLM, and a diffusion engine in this process. Slow to import, as vLLM is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch

from models.diffusion.decoder import DiffusionDecoder
from server.backend import Backend, DrawingDefaults, TextDefaults
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.observe.diffusion import exported
from server.pool.local import LocalPool
from server.settings import DiffusionSettings, Settings


@asynccontextmanager
async def open_local_backend(settings: Settings) -> AsyncIterator[Backend]:
    """vLLM, and a diffusion engine in this process.

    Raises:
        EngineError: vLLM did not start.
        OSError: the checkpoint is incomplete.
        ValueError: a file of the checkpoint is broken.
    """
    text = TextDefaults.from_checkpoint(settings.model.path)
    engine = await VLLMEngine.start(settings.model.path, settings.llm)
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
        pool.start(await engine.dream_states("empty-prompt", prompts.build_negative("")))
        try:
            with exported(pool.stats):
                yield Backend(engine, prompts, pool, drawing_defaults(decoder), text)
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


def device_and_dtype(settings: DiffusionSettings) -> tuple[torch.device, torch.dtype | None]:
    """Where the diffusion engine computes, and in what; None leaves the dtype to the decoder."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: torch.dtype | None = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return torch.device(name), dtype
