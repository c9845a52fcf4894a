"""A pool whose pictures have all passed the check: whoever draws with it never holds one that was refused."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.guard.checks import CheckedImage, Checks, RefusalCode
from server.pool.base import Completed, DiffusionPool, ImageUpdate, PoolLoad, Preview, RenderError, RenderJob

MESSAGES: dict[RefusalCode, str] = {
    "content_filtered": "the picture was refused by the content check of this server",
    "check_failed": "the picture could not be checked",
}


class CheckedPool:
    """A :class:`~server.pool.base.DiffusionPool` between another one and those who draw.

    A refused picture is a ``RenderError`` like any other: it cannot be sent, stored, nor shown to the model, because
    nobody gets it. A refused preview is left out; the next one is judged by itself.

    Args:
        pool: draws.
        checks: judge.
    """

    def __init__(self, pool: DiffusionPool, checks: Checks) -> None:
        self._pool = pool
        self._checks = checks

    async def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        async with aclosing(self._pool.render(job)) as updates:
            async for update in updates:
                match update:
                    case Preview(image=image):
                        if await self._checks.refusal_of(CheckedImage(image.pixels, is_preview=True)) is not None:
                            continue
                    case Completed(image=image):
                        refusal = await self._checks.refusal_of(CheckedImage(image.pixels, is_preview=False))
                        if refusal is not None:
                            raise RenderError(refusal, MESSAGES[refusal])
                yield update

    async def cancel(self, job_id: str) -> None:
        await self._pool.cancel(job_id)

    async def load(self) -> PoolLoad:
        return await self._pool.load()

    async def health(self) -> None:
        await self._pool.health()
