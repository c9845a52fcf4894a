"""Those who ask for pictures, and the pictures that they must get."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from models.diffusion.job import RenderedImage, RenderJob
from server.pool.base import Completed, DiffusionPool, ImageUpdate, Progress, RenderError
from server.pool.local import LocalPool
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually, picture, same_picture
from tests.tiny_diffusion import make_render_job, random_states

MakeCall = Callable[[DiffusionPool, RenderJob], "Call"]

STEPS = 16
EMPTY_PROMPT_SEED = 999
SCHEDULERS = ("ddpm", "ddim", "dpmpp_2m")


def job_of(subject: int, **changes: Any) -> RenderJob:
    """A job whose picture follows from its subject alone: two of one subject must bring the same one."""
    settings: dict[str, Any] = {
        "states": random_states(subject),
        "seed": subject,
        "steps": STEPS,
        "scheduler": SCHEDULERS[subject % len(SCHEDULERS)],
        "guidance_scale": 1.0 if subject % 4 == 0 else 3.0,
    }
    return make_render_job(uuid.uuid4().hex, **(settings | changes))


class Call:
    """One caller of a pool, who reads what it is told to the end.

    Attributes:
        job: that it asked for.
    """

    def __init__(self, pool: DiffusionPool, job: RenderJob) -> None:
        self.job = job
        self._told: list[ImageUpdate | RenderError] = []
        self._reading = asyncio.create_task(self._read(pool))

    async def _read(self, pool: DiffusionPool) -> None:
        try:
            async for update in pool.render(self.job):
                self._told.append(update)
        except RenderError as error:
            self._told.append(error)

    @property
    def ended(self) -> bool:
        """Whether it has been told of the end."""
        return self._reading.done()

    @property
    def progressed(self) -> bool:
        """Whether it has been told that its job is being drawn."""
        return any(isinstance(update, Progress) for update in self._told)

    async def outcome(self) -> Completed | RenderError:
        """The end, once it has come. It must be one."""
        await self._reading
        ends = [update for update in self._told if isinstance(update, Completed | RenderError)]
        assert len(ends) == 1, f"the job ended {len(ends)} times"
        assert self._told[-1] is ends[0]
        return ends[0]

    async def leave(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


async def begun(*calls: Call) -> None:
    """Wait until one of these is being drawn."""
    await eventually(lambda: any(call.progressed for call in calls))


async def three_begun(pool: DiffusionPool, call: MakeCall, line: Line) -> list[Call]:
    """Ask for three pictures, and wait until workers hold all of them and one is being drawn."""
    calls = [call(pool, job_of(subject)) for subject in range(3)]
    await line.until_held(3)
    await begun(*calls)
    return calls


class QuietRun:
    """Draws the same jobs one by one, in this process, with nothing going wrong.

    Args:
        pool: that draws one job at a time.
    """

    def __init__(self, pool: LocalPool) -> None:
        self._pool = pool
        self._pictures: dict[tuple[object, ...], RenderedImage] = {}

    async def check(self, *calls: Call) -> None:
        """Fail unless each of these calls brings the picture of a quiet run.

        A UNet call over other rows may differ in the last bits of its floats, which rounding to pixels can make 1 of
        255: the same as between any two batches.
        """
        for call in calls:
            outcome = await call.outcome()
            assert isinstance(outcome, Completed), f"no picture: {outcome!r}"
            assert same_picture(outcome.image, await self._picture(call.job))

    async def _picture(self, job: RenderJob) -> RenderedImage:
        """Of a job made by :func:`job_of`."""
        settings = (job.seed, job.width, job.height, job.steps, job.guidance_scale, job.scheduler)
        if settings not in self._pictures:
            self._pictures[settings] = await picture(self._pool, job)
        return self._pictures[settings]
