"""The backend: vLLM, and a pool of diffusion workers in this process or behind Redis. Slow to import, as vLLM is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import DecoderDescription
from models.diffusion.fingerprint import checkpoint_id
from server.backend import Backend, DrawingDefaults, TextDefaults
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.observe.diffusion import exported
from server.pool.base import DiffusionPool
from server.pool.drawing import device_and_dtype, job_limits
from server.pool.local import LocalPool
from server.pool.redis.pool import RedisPool
from server.settings import Settings


@asynccontextmanager
async def open_vllm_backend(settings: Settings) -> AsyncIterator[Backend]:
    """vLLM, and a pool: behind Redis if the settings name one, else a diffusion engine in this process.

    Raises:
        EngineError: vLLM did not start.
        OSError: the checkpoint is incomplete.
        ValueError: a file of the checkpoint is broken, or the Redis URL is.
    """
    text = TextDefaults.from_checkpoint(settings.model.path)
    description = DecoderDescription.from_pretrained(settings.model.path / "diffusion")
    engine = await VLLMEngine.start(settings.model.path, settings.llm, settings.log.format)
    try:
        prompts = PromptBuilder(engine)
        empty_prompt = await engine.dream_states("empty-prompt", prompts.build_negative(""))
        remote = settings.redis.url is not None
        opened = open_redis_pool if remote else open_local_pool
        async with opened(settings, description, empty_prompt) as pool:
            yield Backend(engine, prompts, pool, drawing_defaults(description), text, draws_here=not remote)
    finally:
        await engine.shutdown()


@asynccontextmanager
async def open_local_pool(
    settings: Settings, description: DecoderDescription, empty_prompt: torch.Tensor
) -> AsyncIterator[DiffusionPool]:
    """A diffusion engine on threads of this process."""
    device, dtype = device_and_dtype(settings.diffusion)
    decoder = await asyncio.to_thread(
        DiffusionDecoder.from_pretrained, settings.model.path / "diffusion", device, dtype
    )
    pool = LocalPool(
        decoder,
        max_batch=settings.diffusion.max_batch,
        max_decode_batch=settings.diffusion.max_decode_batch,
        preview_share=settings.diffusion.preview_share,
    )
    pool.start(empty_prompt)
    try:
        with exported(pool.stats):
            yield pool
    finally:
        await pool.close(drain_s=0)


@asynccontextmanager
async def open_redis_pool(
    settings: Settings, description: DecoderDescription, empty_prompt: torch.Tensor
) -> AsyncIterator[DiffusionPool]:
    """Workers in other processes. None need be there yet, nor Redis itself."""
    fingerprint = await asyncio.to_thread(checkpoint_id, settings.model.path / "diffusion")
    limits = job_limits(settings.model.path, description, settings.limits)
    pool = RedisPool(settings.redis, description, fingerprint, limits)
    await pool.start(empty_prompt)
    try:
        yield pool
    finally:
        await pool.close()


def drawing_defaults(description: DecoderDescription) -> DrawingDefaults:
    """What the checkpoint recommends."""
    return DrawingDefaults(
        width=description.image_size,
        height=description.image_size,
        size_multiple=description.size_multiple,
        steps=description.sampling.steps,
        guidance_scale=description.sampling.guidance_scale,
        scheduler=description.sampling.scheduler,
    )
