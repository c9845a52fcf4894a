"""What tests do with a pool."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from models.diffusion.job import Completed, RenderedImage, RenderJob
from server.pool.base import DiffusionPool, ImageUpdate, RenderError

Rendering = AsyncGenerator[ImageUpdate, None]

FOR_EVER_S = 240.0
"""Less than the limit of a test, so that one that waits in vain ends what it has started."""


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(FOR_EVER_S):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def rendered(pool: DiffusionPool, job: RenderJob) -> list[ImageUpdate]:
    """All updates of a job."""
    return [update async for update in pool.render(job)]


async def picture(pool: DiffusionPool, job: RenderJob) -> RenderedImage:
    """What comes of a job."""
    last = (await rendered(pool, job))[-1]
    assert isinstance(last, Completed)
    return last.image


async def up_to(pool: DiffusionPool, job: RenderJob, kind: type[ImageUpdate]) -> Rendering:
    """Begin to render and read up to the first update of a kind."""
    updates = pool.render(job)
    while not isinstance(await anext(updates), kind):
        pass
    return updates


@asynccontextmanager
async def begun(pool: DiffusionPool, *jobs: RenderJob) -> AsyncIterator[list[Rendering]]:
    """Jobs that are in line or at work; given up at the end."""
    renderings = [pool.render(job) for job in jobs]
    try:
        for rendering in renderings:
            await anext(rendering)
        yield renderings
    finally:
        for rendering in renderings:
            await rendering.aclose()


def same_picture(one: RenderedImage, other: RenderedImage) -> bool:
    """Whether two are equal but for rounding, which depends on the batch."""
    return bool(abs(one.pixels.astype(int) - other.pixels).max() <= 1)


async def failure(rendering: Rendering) -> str:
    """The code with which it ends."""
    with pytest.raises(RenderError) as error:
        async for _ in rendering:
            pass
    return error.value.code
