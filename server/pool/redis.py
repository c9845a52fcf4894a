"""A pool of workers in other processes, on any number of machines, behind Redis."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from opentelemetry.trace import SpanKind
from redis.exceptions import RedisError

from models.diffusion.description import DecoderDescription
from models.diffusion.job import Completed, Failed, Outcome, RenderJob
from server.observe import metrics
from server.observe.tracing import tracer
from server.pool.base import ImageUpdate, PoolDeadError, PoolLoad, Queued, RenderError
from server.pool.census import CensusTaker
from server.pool.connection import connect, dedicated
from server.pool.origin import encode_origin, here
from server.pool.queue.keys import Keys
from server.pool.queue.producer import DuplicateJobError, Producer, StatesMissingError, Submission
from server.pool.updates import Updates
from server.pool.wire import (
    JobLimits,
    Stored,
    WireError,
    decode_message,
    decode_outcome,
    encode_job,
    encode_states,
    states_digest,
)
from server.settings import RedisSettings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

READ_LIMIT_S = 5.0  # how long one read waits for replies
RETRY_S = 0.1
SLOWEST_RETRY_S = 1.0
RENEWALS_PER_LEASE = 3
SMALL_MESSAGE = 4096  # bytes that are decoded faster than a thread is asked to


@dataclass(slots=True, eq=False)
class _OpenJob:
    """A job that has not ended, and what is needed to put it in line once more.

    Attributes:
        job: as its reader gave it.
        submission: what is in Redis.
        begun_at: when it came, on the loop's clock.
        deadline: on the same.
        context: of its reader: the request and the span that what is done for it belongs to.
        updates: that its reader has not taken yet.
        submitted: whether Redis has taken it.
        fetching: whether its outcome is on its way.
        ended: whether its end is among its updates; nothing more is done for it.
    """

    job: RenderJob
    submission: Submission
    begun_at: float
    deadline: float | None
    context: Context = field(default_factory=copy_context)
    updates: Updates = field(default_factory=Updates)
    submitted: bool = False
    fetching: bool = False
    ended: bool = False

    @property
    def kept(self) -> bool:
        """Whether its place in Redis is to be held."""
        return self.submitted and not self.fetching and not self.ended

    def end(self, outcome: Outcome) -> None:
        """Tell its reader how it ended, unless that has been told before."""
        if not self.ended:
            self.ended = True
            self.updates.put(outcome)


class RedisPool:
    """Sends image jobs to workers through Redis. Everything is called on one event loop.

    While Redis is away, nothing new is begun (:meth:`load` counts no workers), and jobs wait for it up to
    ``settings.patience_s``. A Redis that comes back without its data gets the open jobs once more.

    Args:
        settings: of Redis.
        description: of what the workers draw with.
        checkpoint_id: of the same; only workers with the same weights take the jobs.
        limits: of what they draw; broken here, a job is refused before it is queued.
    """

    def __init__(
        self, settings: RedisSettings, description: DecoderDescription, checkpoint_id: str, limits: JobLimits
    ) -> None:
        self._settings = settings
        self._description = description
        self._limits = limits
        self._client = connect(settings.url.get_secret_value() if settings.url else "", name="dreamserve-server")
        self._blocking = dedicated(self._client, block_s=READ_LIMIT_S)
        server_id = uuid.uuid4().hex
        keys = Keys(settings.namespace, checkpoint_id)
        self._producer = Producer(self._client, self._blocking, keys, server_id, lease_s=settings.lease_s)
        self._census = CensusTaker(self._producer)
        self._open: dict[str, _OpenJob] = {}
        self._unwanted: set[str] = set()
        self._given_up = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._away_since: float | None = None
        self._closed = True

    async def start(self, empty_prompt: torch.Tensor) -> None:
        """Begin to take jobs. Redis need not be there yet.

        Args:
            empty_prompt: dream states ``[num_dream_queries, hidden_size]`` of the guidance branch of jobs that bring
                none.
        """
        self._empty_prompt = await asyncio.to_thread(encode_states, empty_prompt)
        self._empty_prompt_digest = await asyncio.to_thread(states_digest, empty_prompt)
        self._closed = False
        self._loops = [self._spawn(loop) for loop in (self._read_replies(), self._keep_jobs(), self._cancel_unwanted())]

    async def close(self) -> None:
        """Take no more jobs, cancel those at work, and stop. Blocks until Redis knows, or cannot be reached."""
        self._closed = True
        for open_job in self._open.values():
            open_job.end(Failed("unavailable", "The service is shutting down."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RedisError):
            await self._producer.cancel([*self._open, *self._unwanted])
            await self._producer.leave()
        await self._blocking.aclose()
        await self._client.aclose()

    async def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        """Updates of a job: first ``Queued``, last ``Completed``. Closing the iterator cancels the job within a step.

        Raises:
            RenderError: ``"invalid_job"`` for a job that cannot be drawn, ``"unavailable"`` when no jobs are taken or
                Redis stays away, ``"timeout"`` after the job's own limit, ``"cancelled"`` after :meth:`cancel`,
                ``"worker_lost"`` when too many workers died with it, ``"render_failed"`` for everything else.
        """
        if self._closed:
            raise RenderError("unavailable", "the pool takes no jobs")
        open_job = await self._prepare(job)
        if job.id in self._open:
            raise RenderError("invalid_job", f"job {job.id} is already running")
        self._open[job.id] = open_job
        expiry: asyncio.TimerHandle | None = None
        if open_job.deadline is not None:
            expiry = asyncio.get_running_loop().call_at(open_job.deadline, self._expire, open_job)
        ended = False
        try:
            yield await self._before(open_job.deadline, self._submit(open_job))
            while True:
                update = await open_job.updates.get()
                ended = isinstance(update, Completed | Failed)
                if isinstance(update, Failed):
                    raise RenderError(update.code, update.message)
                yield update
                if ended:
                    return
        finally:
            if expiry is not None:
                expiry.cancel()
            del self._open[job.id]
            if not ended:
                self._give_up(job.id)

    async def cancel(self, job_id: str) -> None:
        """Give up a job within one step: its ``render`` raises ``RenderError("cancelled")``. Ignores unknown ids."""
        if open_job := self._open.get(job_id):
            open_job.end(Failed("cancelled", "The picture was cancelled."))
            self._give_up(job_id)

    async def load(self) -> PoolLoad:
        """How busy the pool is with the jobs of all servers, half a second ago at most. Out of reach: no workers."""
        try:
            census = await self._census.take()
        except RedisError:
            return PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0, takes_jobs=False)
        return census.load

    async def health(self) -> None:
        """Return if nothing here has failed: workers and Redis may always come back.

        Raises:
            PoolDeadError: what talks to Redis has ended by a bug.
        """
        if not self._closed and any(loop.done() for loop in self._loops):
            raise PoolDeadError("the pool does not talk to Redis any more")

    async def _prepare(self, job: RenderJob) -> _OpenJob:
        """Check and encode a job.

        Raises:
            RenderError: it cannot be drawn.
        """
        now = asyncio.get_running_loop().time()
        try:
            self._description.check(job, self._limits.states_shape)
            guided_by_empty_prompt = job.negative_states is None and job.guidance_scale > 1
            digest = self._empty_prompt_digest if guided_by_empty_prompt else None
            body = await asyncio.to_thread(encode_job, job, digest)
        except ValueError as error:
            raise RenderError("invalid_job", str(error)) from error
        cost = job.steps * self._description.relative_area(job.width, job.height)
        submission = Submission(job.id, job.priority, body, cost, digest)
        return _OpenJob(job, submission, now, None if job.timeout_s is None else now + job.timeout_s)

    async def _before(self, deadline: float | None, step: Awaitable[Result]) -> Result:
        """Wait for something, but not longer than its job may take."""
        try:
            async with asyncio.timeout_at(deadline):
                return await step
        except TimeoutError:
            raise RenderError("timeout", "the picture was not finished in time") from None

    async def _submit(self, open_job: _OpenJob) -> Queued:
        """Put a job in line, however often that has to be tried.

        Raises:
            RenderError: Redis stayed away for too long, or the job's id is another server's.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._settings.patience_s
        wait_s = RETRY_S
        while True:
            try:
                ahead = await self._put_in_line(open_job)
                open_job.submitted = True
                return await self._queued(open_job, ahead or 0)
            except DuplicateJobError as error:
                raise RenderError("invalid_job", str(error)) from error
            except (RedisError, StatesMissingError) as error:
                if open_job.ended:
                    return Queued(0, None)  # and next its reader hears how it ended
                if loop.time() > give_up_at:
                    raise RenderError("unavailable", "the queue of image jobs cannot be reached") from error
                logger.warning("image job %s has to wait for Redis: %s", open_job.job.id, error)
                metrics.POOL_SUBMISSIONS_FAILED.inc()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, SLOWEST_RETRY_S)

    async def _put_in_line(self, open_job: _OpenJob) -> int | None:
        """Submit a job, and before it what it refers to where Redis does not hold that.

        Raises:
            StatesMissingError: Redis lost at once what it was given: it is so full that it evicts.
        """
        now = asyncio.get_running_loop().time()
        submission, left_s = open_job.submission, None if open_job.deadline is None else open_job.deadline - now
        origin = encode_origin(here(age_s=now - open_job.begun_at))
        with tracer.start_as_current_span("submit", kind=SpanKind.PRODUCER):
            try:
                return await self._producer.submit(submission, left_s, origin)
            except StatesMissingError:
                await self._producer.share_states(self._empty_prompt_digest, self._empty_prompt)
                return await self._producer.submit(submission, left_s, origin)

    async def _queued(self, open_job: _OpenJob, ahead: int) -> Queued:
        try:
            census = await self._census.take()
        except RedisError:
            return Queued(ahead, None)
        return census.place_in_line(open_job.submission.cost, ahead)

    async def _read_replies(self) -> None:
        """The one reader of this server's reply stream."""
        while True:
            try:
                async for message in self._producer.replies(READ_LIMIT_S):
                    await self._receive(message)
                self._away_since = None
            except RedisError as error:
                await self._wait_for_redis(error)

    async def _receive(self, data: bytes) -> None:
        try:
            if len(data) < SMALL_MESSAGE:
                message = decode_message(data, self._limits.max_pixels)
            else:
                message = await asyncio.to_thread(decode_message, data, self._limits.max_pixels)
        except WireError as error:
            logger.warning("a message of a worker was refused: %s", error)
            return
        open_job = self._open.get(message.job_id)
        if open_job is None:
            return
        if isinstance(message.update, Stored):
            self._fetch(open_job)
        else:
            open_job.updates.put(message.update)

    async def _wait_for_redis(self, error: RedisError) -> None:
        """Pause; when Redis has been away for too long, the open jobs fail."""
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            logger.warning("Redis is away: %s", error)
            self._away_since = now
        elif now - self._away_since > self._settings.patience_s:
            for open_job in self._open.values():
                open_job.end(Failed("unavailable", "The queue of image jobs cannot be reached."))
        await asyncio.sleep(RETRY_S)

    async def _keep_jobs(self) -> None:
        """Renew the leases on all jobs, and find out about those whose end was not told."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            mine = {job_id: job for job_id, job in self._open.items() if job.kept}
            try:
                kept = await self._producer.keep(
                    {id: None if job.deadline is None else job.deadline - now for id, job in mine.items()}
                )
            except RedisError:
                await asyncio.sleep(RETRY_S)
                continue
            for job_id in kept.ended:
                self._fetch(mine[job_id])
            for job_id in kept.gone:
                self._submit_again(mine[job_id])
            await asyncio.sleep(self._settings.lease_s / RENEWALS_PER_LEASE)

    def _expire(self, open_job: _OpenJob) -> None:
        """End a job whose time has run out, also while its reader is busy elsewhere."""
        open_job.end(Failed("timeout", "The picture was not finished in time."))
        self._give_up(open_job.job.id)

    def _fetch(self, open_job: _OpenJob) -> None:
        """Fetch an outcome, once."""
        # It may be here before the answer to its submission.
        if self._open.get(open_job.job.id) is open_job and not open_job.fetching and not open_job.ended:
            open_job.fetching = True
            self._spawn(self._fetch_outcome(open_job), open_job.context)

    async def _fetch_outcome(self, open_job: _OpenJob) -> None:
        job = open_job.job
        try:
            with tracer.start_as_current_span("fetch"):
                data = await self._producer.outcome(job.id)
                if data is not None:
                    open_job.end(await asyncio.to_thread(decode_outcome, data, job))
                    return
        except RedisError as error:
            logger.warning("the outcome of image job %s has to wait for Redis: %s", job.id, error)
        except WireError as error:
            logger.warning("the outcome of image job %s was refused: %s", job.id, error)
            open_job.end(Failed("render_failed", "The picture could not be read."))
            return
        open_job.fetching = False  # the next renewal looks again

    def _submit_again(self, open_job: _OpenJob) -> None:
        """Put a job in line that Redis has lost."""
        if self._open.get(open_job.job.id) is open_job and open_job.kept:
            open_job.submitted = False
            self._spawn(self._submit_lost(open_job), open_job.context)

    async def _submit_lost(self, open_job: _OpenJob) -> None:
        logger.warning("Redis has lost image job %s: it is put in line again", open_job.job.id)
        metrics.POOL_RESUBMITTED.inc()
        try:
            await self._before(open_job.deadline, self._submit(open_job))
        except RenderError as error:
            open_job.end(Failed(error.code, str(error)))

    def _give_up(self, job_id: str) -> None:
        self._unwanted.add(job_id)
        self._given_up.set()

    async def _cancel_unwanted(self) -> None:
        """Tell Redis of jobs that were given up. Those of which it does not hear end with their lease."""
        while True:
            await self._given_up.wait()
            self._given_up.clear()
            job_ids = list(self._unwanted)
            try:
                await self._producer.cancel(job_ids)
            except RedisError as error:
                logger.warning("%d image jobs could not be cancelled: %s", len(job_ids), error)
            self._unwanted.difference_update(job_ids)

    def _spawn(self, work: Coroutine[Any, Any, None], context: Context | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            logger.critical("a part of the pool failed", exc_info=bug)
