"""A pool of one worker: the diffusion engine on threads of this process. Needs no Redis."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from time import perf_counter

import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Completed, Failed, JobUpdate, Progress, RenderJob, Size
from models.diffusion.open_jobs import EngineUnavailableError
from models.diffusion.pipeline import RenderPipeline
from models.diffusion.previews import PREVIEW_SHARE
from models.diffusion.stats import EngineStats
from models.diffusion.step_times import StepTimes
from server.observe.diffusion import HANDOFF
from server.pool.base import ImageUpdate, PoolDeadError, PoolLoad, Queued, RenderError
from server.pool.spans import RenderSpans
from server.pool.updates import Updates


@dataclass(slots=True, eq=False)
class _Rendering:
    """A job whose consumer has not left. Lives on the event loop."""

    job: RenderJob
    steps_left: int
    updates: Updates = field(default_factory=Updates)

    def passes(self, other: "_Rendering") -> bool:
        """Whether this one, coming later, gets its place in a batch earlier."""
        begun = other.steps_left < other.job.steps
        return self.job.priority == "high" and other.job.priority == "normal" and not begun


class LocalPool:
    """Renders image jobs in this process. Everything is called on one event loop.

    Args:
        decoder: the diffusion side of the checkpoint.
        max_batch: jobs that share a UNet call.
        max_decode_batch: pictures that share a VAE call.
        preview_share: see :class:`~models.diffusion.previews.PreviewBudget`.
    """

    def __init__(
        self,
        decoder: DiffusionDecoder,
        *,
        max_batch: int = 8,
        max_decode_batch: int = 4,
        preview_share: float = PREVIEW_SHARE,
    ) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._max_decode_batch = max_decode_batch
        self._preview_share = preview_share
        self._pipeline: RenderPipeline | None = None
        self._renderings: dict[str, _Rendering] = {}

    def start(self, empty_prompt: torch.Tensor) -> None:
        """Start the engine. Its speed is not known before the first picture.

        Args:
            empty_prompt: dream states ``[num_dream_queries, hidden_size]`` of the empty prompt.
        """
        queries, hidden_size = empty_prompt.shape
        loop = asyncio.get_running_loop()

        def emit(job_id: str, update: JobUpdate) -> None:
            # A loop that was closed has nobody left to hear of the job.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deliver, job_id, update)

        self._pipeline = RenderPipeline(
            self._decoder,
            (queries, hidden_size),
            empty_prompt,
            emit,
            max_batch=self._max_batch,
            max_decode_batch=self._max_decode_batch,
            preview_share=self._preview_share,
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
                the engine died, ``"cancelled"`` after :meth:`cancel`, ``"timeout"`` when the job's time has run out,
                ``"render_failed"`` for everything else.
        """
        begin = perf_counter()
        pipeline = self._running_pipeline()
        rendering = _Rendering(job, steps_left=job.steps)
        queued = self._place_in_line(rendering, pipeline.stats())
        try:
            pipeline.add(job)
        except ValueError as error:
            raise RenderError("invalid_job", str(error)) from error
        except EngineUnavailableError as error:
            raise RenderError("unavailable", str(error)) from error
        # Deliveries come through the event loop, which cannot run between add and here: none is missed.
        self._renderings[job.id] = rendering
        HANDOFF.observe(perf_counter() - begin)
        spans = RenderSpans()
        expiry: asyncio.TimerHandle | None = None
        if job.timeout_s is not None:
            expiry = asyncio.get_running_loop().call_later(job.timeout_s, pipeline.expire, job.id)
        try:
            yield queued
            while True:
                update = await rendering.updates.get()
                spans.observe(update)
                if isinstance(update, Failed):
                    raise RenderError(update.code, update.message)
                yield update
                if isinstance(update, Completed):
                    return
        finally:
            spans.end()
            if expiry is not None:
                expiry.cancel()
            del self._renderings[job.id]
            pipeline.cancel(job.id)

    async def cancel(self, job_id: str) -> None:
        """Give up a job within one step: its ``render`` raises ``RenderError("cancelled")``. Ignores unknown ids."""
        if self._pipeline is not None:
            self._pipeline.cancel(job_id)

    async def load(self) -> PoolLoad:
        """How busy the pool is now."""
        if self._pipeline is None:
            return PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0, takes_jobs=False)
        lines = self._lines()
        waiting = sum(max(0, len(line) - self._max_batch) for line in lines.values())
        step_times = self._pipeline.stats().step_times
        return PoolLoad(
            queue_depth=waiting,
            running=sum(len(line) for line in lines.values()) - waiting,
            seconds_ahead=self._seconds_ahead(lines.values(), step_times) if step_times else 0.0,
            workers_alive=int(self._pipeline.alive),
            steps_per_s=step_times.job_steps_per_s(self._max_batch) if step_times else None,
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
        rendering = self._renderings.get(job_id)
        if rendering is None:
            return
        if isinstance(update, Progress):
            rendering.steps_left = update.steps - update.step
        rendering.updates.put(update)

    def _lines(self) -> dict[Size, list[_Rendering]]:
        """The jobs that are denoised or wait to be, by size."""
        lines: dict[Size, list[_Rendering]] = defaultdict(list)
        for rendering in self._renderings.values():
            if rendering.steps_left:
                lines[rendering.job.size].append(rendering)
        return lines

    def _place_in_line(self, new: _Rendering, stats: EngineStats) -> Queued:
        """Where a new job stands: batches hold one size, and the sizes take turns."""
        lines = self._lines()
        ahead = [other for other in lines[new.job.size] if not new.passes(other)]
        position = max(0, len(ahead) - self._max_batch + 1)
        if stats.step_times is None:
            return Queued(position, None)
        lines[new.job.size].append(new)
        turn_s = sum(self._step_s(line, stats.step_times) for line in lines.values())
        turns = new.steps_left + (_job_steps(ahead) / self._max_batch if position else 0)
        return Queued(position, turn_s * turns + (stats.finish_s or 0.0))

    def _seconds_ahead(self, lines: Iterable[list[_Rendering]], step_times: StepTimes) -> float:
        return sum(
            self._step_s(line, step_times) * _job_steps(line) / min(len(line), self._max_batch) for line in lines
        )

    def _step_s(self, line: list[_Rendering], step_times: StepTimes) -> float:
        """One step of the batch that these jobs of one size make."""
        area = self._decoder.description.relative_area(*line[0].job.size)
        return step_times.seconds(min(len(line), self._max_batch)) * area


def _job_steps(renderings: Iterable[_Rendering]) -> int:
    return sum(rendering.steps_left for rendering in renderings)
