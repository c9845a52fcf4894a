"""A stand-in for the pool. A job of :class:`ScriptedPool` is a list of updates, gates and exceptions."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Sequence

import numpy as np
from PIL import Image as PILImages

from server.pool.base import (
    Completed,
    ImageUpdate,
    PoolDeadError,
    PoolLoad,
    Preview,
    Progress,
    Queued,
    RenderedImage,
    RenderError,
    RenderJob,
)
from tests.scripted.script import Gate, Recorded

JobItem = ImageUpdate | Gate | Exception


def solid(width: int, height: int, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels uint8 ``[height, width, 3]`` in one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def rendered(job: RenderJob, colour: tuple[int, int, int] = (200, 30, 30)) -> RenderedImage:
    """A finished picture of a job, really encoded, in one colour."""
    pixels = solid(job.width, job.height, colour)
    encoded = io.BytesIO()
    PILImages.fromarray(pixels).save(encoded, format=job.format)
    return RenderedImage(encoded.getvalue(), job.format, pixels)


def drawing(job: RenderJob) -> list[JobItem]:
    """The default script of a job: queued, every step, the previews evenly spread, the picture."""
    previews = {job.steps * (i + 1) // (job.previews + 1): i for i in range(job.previews)}
    updates: list[JobItem] = [Queued(0, 0.1)]
    for step in range(1, job.steps + 1):
        updates.append(Progress(step, job.steps))
        if step in previews:
            updates.append(Preview(previews[step], rendered(job, (100, 100, 100))))
    return [*updates, Completed(rendered(job))]


class ScriptedPool:
    """A :class:`~server.pool.base.DiffusionPool` that draws what its script says.

    Args:
        jobs: one script for each job, in order: items, or a function from the job to them. Jobs past the last one
            follow :func:`drawing`.
        load: what :meth:`load` tells.

    Attributes:
        jobs: all jobs that came.
        record: ids of the jobs: running, finished, aborted (closed early or cancelled).
    """

    def __init__(
        self,
        jobs: Sequence[Sequence[JobItem] | Callable[[RenderJob], Sequence[JobItem]]] = (),
        load: PoolLoad | None = None,
    ) -> None:
        self.jobs: list[RenderJob] = []
        self.record = Recorded()
        self.dead = False
        self.current_load = load or PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=1)
        self._scripts = list(jobs)
        self._cancelled: dict[str, asyncio.Event] = {}

    async def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        number = len(self.jobs)
        self.jobs.append(job)
        script = self._scripts[number] if number < len(self._scripts) else drawing
        items = script(job) if callable(script) else script
        cancelled = self._cancelled[job.id] = asyncio.Event()
        self.record.running.append(job.id)
        try:
            for item in items:
                if isinstance(item, Gate):
                    await self._wait(item, cancelled)
                if cancelled.is_set():
                    raise RenderError("cancelled", "the job was cancelled")
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, Completed):
                    self.record.finished.append(job.id)
                if not isinstance(item, Gate):
                    yield item
        finally:
            self.record.running.remove(job.id)
            if job.id not in self.record.finished:
                self.record.aborted.append(job.id)

    @staticmethod
    async def _wait(gate: Gate, cancelled: asyncio.Event) -> None:
        waits = {asyncio.ensure_future(gate.wait()), asyncio.ensure_future(cancelled.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def cancel(self, job_id: str) -> None:
        if job_id in self.record.running:
            self._cancelled[job_id].set()

    async def load(self) -> PoolLoad:
        return self.current_load

    async def health(self) -> None:
        if self.dead:
            raise PoolDeadError("the scripted pool is dead")
