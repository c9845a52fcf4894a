"""Where a server sends its image jobs: to workers, through Redis."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Coroutine
from contextvars import Context
from typing import Any

import torch
from redis.exceptions import RedisError

from models.diffusion.description import DecoderDescription
from models.diffusion.job import Completed, Failed, RenderJob
from server.observe import metrics
from server.pool.base import ImageUpdate, PoolDeadError, PoolLoad, RenderError
from server.pool.connection import connect, dedicated
from server.pool.queue.keys import Keys
from server.pool.queue.producer import Producer
from server.pool.redis.census import CensusTaker
from server.pool.redis.open_job import OpenJob
from server.pool.redis.replies import READ_LIMIT_S, Replies
from server.pool.redis.submission import Submitter
from server.pool.wire import JobLimits
from server.settings import RedisSettings

logger = logging.getLogger(__name__)

RETRY_S = 0.1
RENEWALS_PER_LEASE = 3


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
        self._lease_s = settings.lease_s
        self._client = connect(settings.url.get_secret_value() if settings.url else "", name="dreamserve-server")
        self._blocking = dedicated(self._client, block_s=READ_LIMIT_S)
        server_id = uuid.uuid4().hex
        keys = Keys(settings.namespace, checkpoint_id)
        self._producer = Producer(self._client, self._blocking, keys, server_id, lease_s=settings.lease_s)
        self._census = CensusTaker(self._producer)
        self._submitter = Submitter(self._producer, self._census, description, limits, settings.patience_s)
        self._open: dict[str, OpenJob] = {}
        self._unwanted: set[str] = set()
        self._given_up = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._closed = True
        self._replies = Replies(self._producer, self._open, limits.max_pixels, settings.patience_s, self._spawn)

    async def start(self, empty_prompt: torch.Tensor) -> None:
        """Begin to take jobs. Redis need not be there yet.

        Args:
            empty_prompt: dream states ``[num_dream_queries, hidden_size]`` of the guidance branch of jobs that bring
                none.
        """
        await self._submitter.share(empty_prompt)
        self._closed = False
        self._loops = [self._spawn(loop) for loop in (self._replies.read(), self._keep_jobs(), self._cancel_unwanted())]

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
        open_job = await self._submitter.prepare(job)
        if job.id in self._open:
            raise RenderError("invalid_job", f"job {job.id} is already running")
        self._open[job.id] = open_job
        expiry: asyncio.TimerHandle | None = None
        if open_job.deadline is not None:
            expiry = asyncio.get_running_loop().call_at(open_job.deadline, self._expire, open_job)
        ended = False
        try:
            yield await self._submitter.submit(open_job)
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
        census = await self._census.take()
        if census is None:
            return PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0, takes_jobs=False)
        return census.load

    async def health(self) -> None:
        """Return if nothing here has failed: workers and Redis may always come back.

        Raises:
            PoolDeadError: what talks to Redis has ended by a bug.
        """
        if not self._closed and any(loop.done() for loop in self._loops):
            raise PoolDeadError("the pool does not talk to Redis any more")

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
                self._replies.fetch(mine[job_id])
            for job_id in kept.gone:
                self._submit_again(mine[job_id])
            await asyncio.sleep(self._lease_s / RENEWALS_PER_LEASE)

    def _expire(self, open_job: OpenJob) -> None:
        """End a job whose time has run out, also while its reader is busy elsewhere."""
        open_job.end(Failed("timeout", "The picture was not finished in time."))
        self._give_up(open_job.job.id)

    def _submit_again(self, open_job: OpenJob) -> None:
        """Put a job in line that Redis has lost."""
        if self._open.get(open_job.job.id) is open_job and open_job.kept:
            open_job.submitted = False
            self._spawn(self._submit_lost(open_job), open_job.context)

    async def _submit_lost(self, open_job: OpenJob) -> None:
        logger.warning("Redis has lost image job %s: it is put in line again", open_job.job.id)
        metrics.POOL_RESUBMITTED.inc()
        try:
            await self._submitter.submit(open_job)
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
