"""A pool of one worker: the diffusion engine on threads of this process. Needs no Redis."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator

import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Completed, Failed, JobUpdate, Progress, RenderJob
from models.diffusion.open_jobs import EngineUnavailableError
from models.diffusion.pipeline import RenderPipeline
from models.diffusion.stats import EngineStats
from server.pool.base import ImageUpdate, PoolDeadError, PoolLoad, Queued, RenderError


class _Rendering:
    """A job and the updates that its consumer has not taken yet. Lives on the event loop."""

    def __init__(self, job: RenderJob) -> None:
        self.size = (job.width, job.height)
        self.steps_left = job.steps
        self._updates: deque[JobUpdate] = deque()
        self._arrived = asyncio.Event()

    def put(self, update: JobUpdate) -> None:
        """Add an update. Of progress that nobody took yet only the latest is kept: a slow consumer costs little."""
        if isinstance(update, Progress):
            self.steps_left = update.steps - update.step
            if self._updates and isinstance(self._updates[-1], Progress):
                self._updates.pop()
        self._updates.append(update)
        self._arrived.set()

    async def get(self) -> JobUpdate:
        """The next update, as soon as there is one."""
        while not self._updates:
            self._arrived.clear()
            await self._arrived.wait()
        return self._updates.popleft()


class LocalPool:
    """Renders image jobs in this process. Everything is called on one event loop.

    Args:
        decoder: the diffusion side of the checkpoint.
        max_batch: jobs that share a UNet call.
        max_decode_batch: pictures that share a VAE call.
    """

    def __init__(self, decoder: DiffusionDecoder, *, max_batch: int = 8, max_decode_batch: int = 4) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._max_decode_batch = max_decode_batch
        self._pipeline: RenderPipeline | None = None
        self._renderings: dict[str, _Rendering] = {}

    def start(self, negative_states: torch.Tensor) -> None:
        """Start the engine. Its speed is not known before the first picture.

        Args:
            negative_states: dream states ``[num_dream_queries, hidden_size]`` of the empty prompt.
        """
        loop = asyncio.get_running_loop()

        def emit(job_id: str, update: JobUpdate) -> None:
            # A loop that was closed has nobody left to hear of the job.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deliver, job_id, update)

        self._pipeline = RenderPipeline(
            self._decoder,
            negative_states,
            emit,
            max_batch=self._max_batch,
            max_decode_batch=self._max_decode_batch,
        )
        self._pipeline.start()

    async def close(self, drain_s: float = 30.0) -> None:
        """Take no more jobs, give those at work so many seconds to finish, end the rest as unavailable, and stop."""
        if self._pipeline is not None:
            await asyncio.to_thread(self._pipeline.close, drain_s)

    async def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        """Updates of a job: first ``Queued``, last ``Completed``. Closing the iterator cancels the job within a step.

        Raises:
            RenderError: ``"invalid_job"`` for a job that cannot be drawn, ``"unavailable"`` when no jobs are taken or
                the engine died, ``"cancelled"`` after :meth:`cancel`, ``"render_failed"`` for everything else.
        """
        pipeline = self._running_pipeline()
        queued = self._place_in_line(job, pipeline.stats())
        try:
            pipeline.add(job)
        except ValueError as error:
            raise RenderError("invalid_job", str(error)) from error
        except EngineUnavailableError as error:
            raise RenderError("unavailable", str(error)) from error
        # Deliveries come through the event loop, which cannot run between add and here: none is missed.
        rendering = self._renderings[job.id] = _Rendering(job)
        try:
            yield queued
            while True:
                update = await rendering.get()
                if isinstance(update, Failed):
                    raise RenderError(update.code, update.message)
                yield update
                if isinstance(update, Completed):
                    return
        finally:
            del self._renderings[job.id]
            pipeline.cancel(job.id)

    async def cancel(self, job_id: str) -> None:
        """Give up a job within one step: its ``render`` raises ``RenderError("cancelled")``. Ignores unknown ids."""
        if self._pipeline is not None:
            self._pipeline.cancel(job_id)

    async def load(self) -> PoolLoad:
        """How busy the pool is now."""
        if self._pipeline is None:
            return PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0)
        ahead = self._ahead()
        by_size = Counter(rendering.size for rendering in ahead)
        waiting = sum(max(0, jobs - self._max_batch) for jobs in by_size.values())
        job_steps = sum(rendering.steps_left for rendering in ahead)
        job_steps_per_s = self._pipeline.stats().job_steps_per_s
        return PoolLoad(
            queue_depth=waiting,
            running=len(ahead) - waiting,
            seconds_ahead=job_steps / job_steps_per_s if job_steps_per_s else 0.0,
            workers_alive=int(self._pipeline.alive),
        )

    async def health(self) -> None:
        """Return if the engine can draw.

        Raises:
            PoolDeadError: a thread of it has died.
        """
        if self._pipeline is not None and not self._pipeline.alive:
            raise PoolDeadError("the diffusion engine has died")

    def stats(self) -> EngineStats:
        """The engine's own counts.

        Raises:
            RenderError: ``"unavailable"`` before :meth:`start`.
        """
        return self._running_pipeline().stats()

    def _running_pipeline(self) -> RenderPipeline:
        if self._pipeline is None:
            raise RenderError("unavailable", "the pool has not been started")
        return self._pipeline

    def _deliver(self, job_id: str, update: JobUpdate) -> None:
        if rendering := self._renderings.get(job_id):
            rendering.put(update)

    def _ahead(self) -> list[_Rendering]:
        """The jobs that are denoised or wait to be."""
        return [rendering for rendering in self._renderings.values() if rendering.steps_left]

    def _place_in_line(self, job: RenderJob, stats: EngineStats) -> Queued:
        """Where a new job stands: batches hold one size, in order of arrival, and the sizes take turns."""
        ahead = self._ahead()
        same_size = [rendering for rendering in ahead if rendering.size == (job.width, job.height)]
        position = max(0, len(same_size) - self._max_batch + 1)
        if stats.step_s is None:
            return Queued(position, None)
        sizes = len({(job.width, job.height), *(rendering.size for rendering in ahead)})
        job_steps = sum(rendering.steps_left for rendering in same_size) if position else 0
        steps = job.steps + job_steps / self._max_batch
        return Queued(position, stats.step_s * steps * sizes + (stats.finish_s or 0.0))
