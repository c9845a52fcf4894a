"""Pools as servers have them: in this process, and in one that will be killed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from models.diffusion.description import DecoderDescription
from models.diffusion.fingerprint import checkpoint_id
from server.pool.drawing import job_limits
from server.pool.redis.pool import RedisPool
from server.settings import LimitsSettings, RedisSettings
from tests.pool.faults.callers import EMPTY_PROMPT_SEED, Call, job_of
from tests.pool.faults.forks import forks
from tests.tiny_diffusion import random_states

OpenPool = Callable[..., Awaitable[RedisPool]]

NAMESPACE = "faults"
SHORT_LEASE_S = 1.5
# A server that is only slow, because the machine is, must not count as lost.
LEASE_S = 30.0
PATIENCE_S = 3600.0


async def started_pool(
    url: str, checkpoint: Path, *, lease_s: float = LEASE_S, patience_s: float = PATIENCE_S
) -> RedisPool:
    """A pool that takes jobs."""
    description = DecoderDescription.from_pretrained(checkpoint / "diffusion")
    settings = RedisSettings.model_validate(
        {"url": url, "namespace": NAMESPACE, "lease_s": lease_s, "patience_s": patience_s}
    )
    limits = job_limits(checkpoint, description, LimitsSettings())
    pool = RedisPool(settings, description, checkpoint_id(checkpoint / "diffusion"), limits)
    await pool.start(random_states(EMPTY_PROMPT_SEED))
    return pool


def doomed_server(url: str, checkpoint: Path, subjects: Sequence[int]) -> BaseProcess:
    """A process, not yet started, that asks for pictures of these subjects and waits for them."""
    return forks.Process(target=_serve, args=(url, checkpoint, subjects), daemon=True)


def _serve(url: str, checkpoint: Path, subjects: Sequence[int]) -> None:
    async def ask() -> None:
        pool = await started_pool(url, checkpoint, lease_s=SHORT_LEASE_S)
        await asyncio.gather(*(Call(pool, job_of(subject)).outcome() for subject in subjects))

    asyncio.run(ask())
