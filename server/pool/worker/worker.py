"""The worker itself: takes jobs for as long as it runs, and leaves in good order.

What holds while it works:

- it holds no more jobs than the next step of its engine can admit, whatever their sizes, so that a free worker never
  waits for a job that a busy one keeps;
- it renews its leases on the jobs that it holds; one that it lost (it was frozen, or Redis was away) it drops;
- a job is acknowledged in the same script that stores its outcome;
- a job on its last try is drawn alone.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any

from redis.exceptions import RedisError

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import JobUpdate
from models.diffusion.pipeline import RenderPipeline
from models.diffusion.previews import PREVIEW_SHARE
from models.diffusion.stats import EngineStats
from models.diffusion.step_times import StepTimes
from server.observe.logging import request_id
from server.observe.tracing import fail
from server.pool.origin import decode_origin
from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.spans import draw_span
from server.pool.wire import JobLimits, WorkerInfo
from server.pool.worker.executor import JobExecutor
from server.pool.worker.held_jobs import HeldJob, HeldJobs
from server.pool.worker.leases import LeaseKeeper
from server.pool.worker.outage import pause
from server.pool.worker.settlement import Settlement
from server.tasks import end

logger = logging.getLogger(__name__)

WAIT_S = 1.0  # how long one read waits for a job; then leases that ran out are looked at


class WorkerError(Exception):
    """The worker cannot go on: its engine died, or a part of the worker itself did."""


class Worker:
    """Draws for servers. Everything is called on one event loop.

    Args:
        id: unique for each worker process.
        consumer: of the queue.
        decoder: what draws.
        limits: what jobs may ask for.
        step_times: measured before, for the announcement.
        max_batch: jobs of one UNet call.
        max_decode_batch: pictures of one VAE call.
        preview_share: see :class:`~models.diffusion.previews.PreviewBudget`.
        lease_s: how long jobs stay its own without renewal.
        patience_s: how long an outcome waits for a Redis that is away or full.
        max_tries: workers that may die with a job.

    Attributes:
        draining: whether it takes no more jobs.
    """

    def __init__(
        self,
        id: str,
        consumer: Consumer,
        decoder: DiffusionDecoder,
        limits: JobLimits,
        step_times: StepTimes,
        *,
        max_batch: int,
        max_decode_batch: int,
        lease_s: float,
        patience_s: float,
        max_tries: int,
        preview_share: float = PREVIEW_SHARE,
    ) -> None:
        self.draining = False
        self._id = id
        self._consumer = consumer
        self._step_times = step_times
        self._max_batch = max_batch
        self._device = str(decoder.device)
        self._lease_s = lease_s
        self._last_try = max_tries if max_tries > 1 else 0
        self._died = asyncio.Event()
        self._bug: BaseException | None = None
        self._works: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._pipeline = RenderPipeline(
            decoder,
            limits.states_shape,
            None,
            self._emit,
            max_batch=max_batch,
            max_decode_batch=max_decode_batch,
            preview_share=preview_share,
        )
        self._held_jobs = HeldJobs(drop=self._pipeline.cancel)
        self._leases = LeaseKeeper(consumer, self._held_jobs, self._announcement, lease_s)
        self._settlement = Settlement(consumer, self._held_jobs, patience_s)
        self._executor = JobExecutor(
            self._pipeline,
            decoder.description,
            consumer,
            self._held_jobs,
            self._settlement,
            limits,
            max_tries=max_tries,
            engine_died=self._died.set,
        )

    @property
    def renewed_at(self) -> float | None:
        """When the last renewal of its leases succeeded, on the loop's clock; None before the first."""
        return self._leases.renewed_at

    @property
    def alive(self) -> bool:
        """Whether its engine is at work."""
        return self._pipeline.alive

    def stats(self) -> EngineStats:
        """The engine's own counts."""
        return self._pipeline.stats()

    async def run(self, stop: asyncio.Event, drain_s: float) -> None:
        """Work until told to stop; then take no more jobs, give those at work so long to end, and hand back the rest.

        Raises:
            WorkerError: the engine died, or a part of the worker. What it was drawing has been handed back.
        """
        self._pipeline.start()
        leases = self._leases
        beside = [self._watch(work) for work in (leases.renew(), leases.hear_cancellations(), leases.sweep())]
        pulling = self._watch(self._pull())
        try:
            await _first(stop.wait(), self._died.wait())
            self.draining = True
            self._held_jobs.wake()
            await asyncio.wait([pulling])
            if self._works:
                logger.info("waiting for %d image jobs, %g s at most", len(self._works), drain_s)
                await asyncio.wait(self._works, timeout=0 if self._died.is_set() else drain_s)
            await asyncio.gather(*(self._abandon(held) for held in self._held_jobs.by_id.values()))
            await asyncio.gather(*self._works)
        finally:
            await end([pulling, *beside, *self._works])
            with contextlib.suppress(RedisError):
                await self._consumer.leave()
            await asyncio.to_thread(self._pipeline.close, 0)
        if self._died.is_set():
            raise WorkerError("the diffusion engine died" if self._bug is None else "the worker failed") from self._bug

    def _watch(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what goes on for as long as the worker does: without it, the worker would only seem to be at work."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        return task

    def _check(self, ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (bug := ended.exception()) is not None:
            self._bug = bug
            self._died.set()

    async def _pull(self) -> None:
        """Take jobs whenever there is room for them."""
        reclaim_at = self._loop.time()
        while not self.draining:
            room = self._room()
            if room <= 0:
                await self._held_jobs.change()
                continue
            now = self._loop.time()
            try:
                taken = await self._consumer.take(room, reclaim=now >= reclaim_at, last_try=self._last_try)
                reclaim_at = now + WAIT_S if now >= reclaim_at else reclaim_at
                if not taken and not self.draining:
                    taken = await self._consumer.wait(WAIT_S, last_try=self._last_try)
            except RedisError as error:
                await pause("no image jobs can be taken", error)
                # The others could not renew their leases either: not all whose leases ran out are dead.
                reclaim_at = self._loop.time() + self._lease_s
                continue
            for job in taken:
                self._begin(job)

    def _room(self) -> int:
        """Jobs that the next step could admit. None beside one that has to be alone."""
        return 0 if self._held_jobs.alone.locked() else self._pipeline.room() - self._held_jobs.arriving

    def _begin(self, taken: TakenJob) -> None:
        if (held := self._held_jobs.find(taken.id)) is not None:
            # Its lease ran out before it could be renewed, and this worker was the first to notice.
            if held.given_up is not None:
                self._work(self._begin_again(taken), f"image job {taken.id}, again")
            return
        origin, context = decode_origin(taken.origin), copy_context()
        context.run(request_id.set, origin.request_id)
        held = HeldJob(taken, taken.tries != self._last_try, origin, context, self._loop.time())
        self._held_jobs.add(held)
        self._work(self._draw_traced(held), f"image job {taken.id}", context)

    async def _begin_again(self, taken: TakenJob) -> None:
        """Begin a job whose server has put it in line again before what is left of it here is gone."""
        while self._held_jobs.find(taken.id) is not None:
            await self._held_jobs.change()
        self._begin(taken)

    def _work(self, work: Coroutine[Any, Any, None], name: str, context: Context | None = None) -> None:
        task = asyncio.create_task(work, name=name, context=context)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _draw_traced(self, held: HeldJob) -> None:
        with draw_span(held.taken, held.origin) as span:
            await self._executor.execute(held)
            if held.given_up:
                fail(span, held.given_up)
            seconds = self._loop.time() - held.since
            logger.info("image job %s: %s after %.2f s", held.taken.id, held.given_up or held.ended, seconds)

    async def _abandon(self, held: HeldJob) -> None:
        """Hand a job back because the worker ends. It may be what killed the engine, so that counts as a try."""
        counts = self._died.is_set() and self._held_jobs.is_drawing(held)
        await self._settlement.hand_back(held, counts=counts)

    def _announcement(self) -> WorkerInfo:
        stats = self._pipeline.stats()
        return WorkerInfo(
            worker_id=self._id,
            max_batch=self._max_batch,
            step_times=self._step_times.updated(stats.step_times),
            running=len(self._held_jobs),
            steps_ahead=self._held_jobs.steps_ahead,
            finish_s=stats.finish_s,
            device=self._device,
            draining=self.draining,
        )

    def _emit(self, job_id: str, update: JobUpdate) -> None:
        """Take an update from a thread of the engine. A loop that was closed has nobody left to hear of it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._held_jobs.deliver, job_id, update)


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait for one of several."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
