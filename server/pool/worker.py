"""A worker: takes image jobs from Redis as its engine has room for them, draws them, and tells of them.

What holds while it works:

- it holds no more jobs than the next step of its engine can admit, whatever their sizes, so that a free worker never
  waits for a job that a busy one keeps;
- it renews its leases on the jobs that it holds; one that it lost (it was frozen, or Redis was away) it drops;
- a job is acknowledged in the same script that stores its outcome;
- a job on its last try is drawn alone: if it kills its worker again, it takes no other job with it. The try counts only
  once that has begun, so that the job is not given up because of another one.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from typing import Any

from redis.exceptions import RedisError

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Completed, Failed, JobUpdate, Outcome, Preview, Progress, RenderJob
from models.diffusion.open_jobs import EngineUnavailableError
from models.diffusion.pipeline import RenderPipeline
from models.diffusion.previews import PREVIEW_SHARE
from models.diffusion.stats import EngineStats
from models.diffusion.step_times import StepTimes
from server.observe import worker as metrics
from server.observe.diffusion import HANDOFF
from server.observe.logging import request_id
from server.observe.tracing import fail, tracer
from server.pool.origin import Origin, decode_origin
from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.spans import RenderSpans, draw_span
from server.pool.states import SharedStates, StatesUnavailableError
from server.pool.updates import Updates
from server.pool.wire import (
    JobLimits,
    Message,
    Stored,
    WireError,
    WorkerInfo,
    decode_job,
    encode_message,
    encode_outcome,
    encode_worker,
)
from server.tasks import end

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 4  # at least; and at least one a second, for the announcement's sake
PROGRESS_MESSAGES = 8  # of one picture at most, so that its number of Redis commands does not grow with its steps
ANNOUNCE_S = 1.0
WAIT_S = 1.0  # how long one read waits for a job; then leases that ran out are looked at
SWEEP_S = 60.0
RETRY_S = 0.2


class WorkerError(Exception):
    """The worker cannot go on: its engine died, or a part of the worker itself did."""


@dataclass(slots=True, eq=False)
class _Held:
    """A job that this worker holds.

    Attributes:
        taken: as it came from the queue.
        counted: whether Redis counts this try already.
        origin: the request that it is drawn for.
        context: in which what is done for it is logged and traced.
        since: when it came here, on the loop's clock.
        updates: of the engine, not yet told.
        steps_left: of the job; 0 before it has been read.
        relative_area: of its picture; see :meth:`DecoderDescription.relative_area`.
        given_up: why nothing more is to be told of it: it was cancelled, lost or handed back.
        ended: how it ended, if it was not given up.
    """

    taken: TakenJob
    counted: bool
    origin: Origin
    context: Context
    since: float
    updates: Updates = field(default_factory=Updates)
    steps_left: int = 0
    relative_area: float = 1.0
    given_up: str | None = None
    ended: str = ""


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
        renewed_at: when the last renewal succeeded, on the loop's clock; None before the first.
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
        self.renewed_at: float | None = None
        self.draining = False
        self._id = id
        self._consumer = consumer
        self._limits = limits
        self._step_times = step_times
        self._max_batch = max_batch
        self._description = decoder.description
        self._device = str(decoder.device)
        self._lease_s = lease_s
        self._patience_s = patience_s
        self._max_tries = max_tries
        self._last_try = max_tries if max_tries > 1 else 0
        self._states = SharedStates(consumer, limits.states_shape)
        self._held: dict[str, _Held] = {}
        self._arriving: set[str] = set()
        self._drawing: set[str] = set()
        self._alone = asyncio.Lock()
        self._changed = asyncio.Event()
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
        beside = [self._watch(work) for work in (self._renew(), self._hear_cancellations(), self._sweep())]
        pulling = self._watch(self._pull())
        try:
            await _first(stop.wait(), self._died.wait())
            self.draining = True
            self._changed.set()
            await asyncio.wait([pulling])
            if self._works:
                logger.info("waiting for %d image jobs, %g s at most", len(self._works), drain_s)
                await asyncio.wait(self._works, timeout=0 if self._died.is_set() else drain_s)
            await asyncio.gather(*(self._abandon(held) for held in list(self._held.values())))
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
                self._changed.clear()
                await self._changed.wait()
                continue
            now = self._loop.time()
            try:
                taken = await self._consumer.take(room, reclaim=now >= reclaim_at, last_try=self._last_try)
                reclaim_at = now + WAIT_S if now >= reclaim_at else reclaim_at
                if not taken and not self.draining:
                    taken = await self._consumer.wait(WAIT_S, last_try=self._last_try)
            except RedisError as error:
                await self._redis_failed("no image jobs can be taken", error)
                # The others could not renew their leases either: not all whose leases ran out are dead.
                reclaim_at = self._loop.time() + self._lease_s
                continue
            for job in taken:
                self._begin(job)

    def _room(self) -> int:
        """Jobs that the next step could admit. None beside one that has to be alone."""
        return 0 if self._alone.locked() else self._pipeline.room() - len(self._arriving)

    def _begin(self, taken: TakenJob) -> None:
        if taken.id in self._held:
            # Its lease ran out before it could be renewed, and this worker was the first to notice.
            return
        origin, context = decode_origin(taken.origin), copy_context()
        context.run(request_id.set, origin.request_id)
        held = self._held[taken.id] = _Held(taken, taken.tries != self._last_try, origin, context, self._loop.time())
        metrics.TAKEN.inc()
        metrics.WAIT.observe(taken.waited_s)
        metrics.HELD.set(len(self._held))
        self._arriving.add(taken.id)
        work = asyncio.create_task(self._draw_traced(held), name=f"image job {taken.id}", context=context)
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _draw_traced(self, held: _Held) -> None:
        with draw_span(held.taken, held.origin) as span:
            await self._work(held)
            if held.given_up:
                fail(span, held.given_up)
            seconds = self._loop.time() - held.since
            logger.info("image job %s: %s after %.2f s", held.taken.id, held.given_up or held.ended, seconds)

    async def _work(self, held: _Held) -> None:
        """One job, from the queue to its end."""
        taken = held.taken
        if taken.tries > 1:
            metrics.TAKEN_OVER.inc()
            logger.warning("image job %s is tried for the %d. time", taken.id, taken.tries)
        try:
            if taken.tries > self._max_tries:
                lost = taken.tries - 1
                reason = f"{lost} workers were lost while they drew it"
                await self._conclude(held, Failed("worker_lost", f"The picture was given up: {reason}."), reason)
            elif self._alone.locked():
                # Another worker may have time for it before this one has.
                await self._hand_back(held, counts=False)
            elif held.counted:
                await self._try(held)
            else:
                await self._try_alone(held)
        finally:
            self._arriving.discard(taken.id)
            self._drawing.discard(taken.id)
            del self._held[taken.id]
            metrics.HELD.set(len(self._held))
            self._changed.set()

    async def _try_alone(self, held: _Held) -> None:
        """Draw a job beside which nothing else is drawn: what arrives meanwhile is handed back."""
        async with self._alone:
            while self._arriving - {held.taken.id} or self._drawing:
                self._changed.clear()
                await self._changed.wait()
            try:
                held.counted = await self._consumer.begin(held.taken.id)
            except RedisError as error:
                logger.warning("the last try of image job %s cannot be begun: %r", held.taken.id, error)
            if held.counted:
                await self._try(held)
            else:
                await self._hand_back(held, counts=False)

    async def _try(self, held: _Held) -> None:
        """Read a job and draw it."""
        taken = held.taken
        try:
            job = await self._read(taken)
        except WireError as error:
            await self._conclude(held, Failed("invalid_job", str(error)), f"refused: {error}")
        except StatesUnavailableError:
            logger.warning("image job %s refers to states that Redis does not hold", taken.id)
            await self._let_go(held, self._consumer.give_up(taken.id))
        except RedisError as error:
            logger.warning("image job %s cannot be begun: %r", taken.id, error)
            await self._hand_back(held, counts=True)
        else:
            await self._draw(held, job)

    async def _read(self, taken: TakenJob) -> RenderJob:
        """Decode and check a job.

        Raises:
            WireError: it is not one that this worker can draw.
            StatesUnavailableError: what it refers to is not in Redis.
            RedisError: Redis cannot be reached.
        """
        read = await asyncio.to_thread(decode_job, taken.body, self._limits)
        if read.job.id != taken.id:
            raise WireError("id: the body is another job's")
        if read.empty_prompt is None:
            return read.job
        return replace(read.job, negative_states=await self._states.get(read.empty_prompt))

    async def _draw(self, held: _Held, job: RenderJob) -> None:
        if held.given_up:
            return
        held.steps_left = job.steps
        held.relative_area = self._description.relative_area(job.width, job.height)
        try:
            self._pipeline.add(job)
        except ValueError as error:
            await self._conclude(held, Failed("invalid_job", str(error)), f"refused: {error}")
            return
        except EngineUnavailableError:
            await self._hand_back(held, counts=False)
            return
        self._arriving.discard(job.id)
        self._drawing.add(job.id)
        if held.taken.tries == 1:
            HANDOFF.observe(held.origin.age_s + held.taken.waited_s + self._loop.time() - held.since)
        update = await self._follow(held)
        self._drawing.discard(job.id)
        if isinstance(update, Failed) and update.code == "unavailable":
            await self._hand_back(held, counts=True)
            self._died.set()
            return
        await self._conclude(held, update)

    async def _follow(self, held: _Held) -> Outcome:
        """Tell of a job what may be missed, and return how it ended in the engine."""
        told = 0
        spans = RenderSpans()
        try:
            while True:
                update = await held.updates.get()
                spans.observe(update)
                if isinstance(update, Completed | Failed):
                    return update
                if isinstance(update, Progress):
                    due = update.step * PROGRESS_MESSAGES // update.steps
                    if due == told:
                        continue
                    told = due
                await self._tell(held, update)
        finally:
            spans.end()

    async def _tell(self, held: _Held, update: Progress | Preview) -> None:
        """Send what may be missed."""
        if held.given_up:
            return
        try:
            message = Message(held.taken.id, update)
            data = (
                encode_message(message)
                if isinstance(update, Progress)
                else await asyncio.to_thread(encode_message, message)
            )
            await self._consumer.tell(held.taken.server_id, data)
        except RedisError:
            metrics.REDIS_ERRORS.inc()
            logger.debug("an update of image job %s was not told", held.taken.id, exc_info=True)

    async def _conclude(self, held: _Held, outcome: Outcome, dead_letter: str = "") -> None:
        """Store an outcome, however often that has to be tried: the lease is renewed meanwhile.

        After a while others may try their luck, and that is not held against the job.
        """
        job_id = held.taken.id
        if dead_letter:
            logger.error("image job %s goes to the dead letters: %s", job_id, dead_letter)
        with tracer.start_as_current_span("store"):
            await self._store(held, outcome, dead_letter)

    async def _store(self, held: _Held, outcome: Outcome, dead_letter: str) -> None:
        job_id = held.taken.id
        data = await asyncio.to_thread(encode_outcome, outcome)
        message = encode_message(Message(job_id, Stored()))
        give_up_at = self._loop.time() + self._patience_s
        while not held.given_up:
            try:
                stored = await self._consumer.finish(job_id, data, message, dead_letter=dead_letter)
            except RedisError as error:
                await self._redis_failed(f"the outcome of image job {job_id} cannot be stored", error)
                if self._loop.time() > give_up_at:
                    await self._hand_back(held, counts=False)
            else:
                ended = "dead_letter" if dead_letter else "completed" if isinstance(outcome, Completed) else "failed"
                if not stored:
                    self._give_up(held, "lost")
                elif held.given_up is None:
                    held.ended = ended
                    metrics.ENDED.labels(ended).inc()
                return

    async def _abandon(self, held: _Held) -> None:
        """Hand a job back because the worker ends. It may be what killed the engine, so that counts as a try."""
        await self._hand_back(held, counts=self._died.is_set() and held.taken.id in self._drawing)

    async def _hand_back(self, held: _Held, *, counts: bool) -> None:
        """Put a job back in line. If Redis cannot be reached its lease runs out, which comes to the same."""
        if held.given_up is None:
            await self._let_go(held, self._consumer.hand_back(held.taken.id, counts=counts or not held.counted))

    async def _let_go(self, held: _Held, telling: Awaitable[object]) -> None:
        self._give_up(held, "handed_back")
        try:
            await telling
        except RedisError:
            logger.warning("image job %s could not be handed back", held.taken.id, exc_info=True)

    def _give_up(self, held: _Held, reason: str) -> None:
        """Draw a job no further; its place is free at the next step."""
        if held.given_up is None:
            held.given_up = reason
            metrics.ENDED.labels(reason).inc()
            self._pipeline.cancel(held.taken.id)

    async def _renew(self) -> None:
        """Keep the leases and the announcement."""
        while True:
            asked = dict(self._held)
            try:
                lost = await self._consumer.renew(list(asked), encode_worker(self._announcement()))
            except RedisError as error:
                await self._redis_failed("the leases cannot be renewed", error)
                continue
            self.renewed_at = self._loop.time()
            for job_id in lost:
                # One that has ended meanwhile is not held any more.
                if self._held.get(job_id) is asked[job_id] and asked[job_id].given_up is None:
                    metrics.LEASES_LOST.inc()
                    asked[job_id].context.run(logger.warning, "image job %s is not this worker's any more", job_id)
                    self._give_up(asked[job_id], "lost")
            await asyncio.sleep(min(ANNOUNCE_S, self._lease_s / RENEWALS_PER_LEASE))

    async def _hear_cancellations(self) -> None:
        """Drop jobs that nobody wants."""
        while True:
            try:
                async for job_id in self._consumer.cancellations():
                    if held := self._held.get(job_id):
                        self._give_up(held, "cancelled")
            except RedisError as error:
                await self._redis_failed("cancellations cannot be heard", error)

    async def _sweep(self) -> None:
        while True:
            with contextlib.suppress(RedisError):
                await self._consumer.sweep()
            await asyncio.sleep(SWEEP_S)

    async def _redis_failed(self, what: str, error: RedisError) -> None:
        metrics.REDIS_ERRORS.inc()
        logger.warning("%s: %s", what, error)
        await asyncio.sleep(RETRY_S)

    def _announcement(self) -> WorkerInfo:
        stats = self._pipeline.stats()
        return WorkerInfo(
            worker_id=self._id,
            max_batch=self._max_batch,
            step_times=self._step_times.updated(stats.step_times),
            running=len(self._held),
            steps_ahead=math.ceil(sum(held.steps_left * held.relative_area for held in self._held.values())),
            finish_s=stats.finish_s,
            device=self._device,
            draining=self.draining,
        )

    def _emit(self, job_id: str, update: JobUpdate) -> None:
        """Take an update from a thread of the engine. A loop that was closed has nobody left to hear of it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, job_id, update)

    def _deliver(self, job_id: str, update: JobUpdate) -> None:
        if held := self._held.get(job_id):
            held.updates.put(update)
            if isinstance(update, Progress):
                held.steps_left = update.steps - update.step
        self._changed.set()


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait for one of several."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
