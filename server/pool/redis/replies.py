"""What a server hears of its jobs: progress, previews, and that there is an outcome, which it fetches."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any

from redis.exceptions import RedisError

from models.diffusion.job import Failed
from server.observe.tracing import tracer
from server.pool.queue.producer import Producer
from server.pool.redis.open_job import OpenJob
from server.pool.wire import Stored, WireError, decode_message, decode_outcome

logger = logging.getLogger(__name__)

READ_LIMIT_S = 5.0  # how long one read waits for replies
RETRY_S = 0.1
SMALL_MESSAGE = 4096  # bytes that are decoded faster than a thread is asked to

Spawn = Callable[[Coroutine[Any, Any, None], Context], object]
"""Has work done beside all else, in a context."""


class Replies:
    """The one reader of a server's reply stream.

    Args:
        producer: of the queue.
        open_jobs: of the server, by id.
        max_pixels: of a picture.
        patience_s: how long the jobs wait for a Redis that is away.
        spawn: runs what fetches an outcome.
    """

    def __init__(
        self, producer: Producer, open_jobs: Mapping[str, OpenJob], max_pixels: int, patience_s: float, spawn: Spawn
    ) -> None:
        self._producer = producer
        self._open_jobs = open_jobs
        self._max_pixels = max_pixels
        self._patience_s = patience_s
        self._spawn = spawn
        self._away_since: float | None = None

    async def read(self) -> None:
        """Read, until cancelled. When Redis has been away for too long, the open jobs fail."""
        while True:
            try:
                async for message in self._producer.replies(READ_LIMIT_S):
                    await self._receive(message)
                self._away_since = None
            except RedisError as error:
                await self._wait_for_redis(error)

    def fetch(self, open_job: OpenJob) -> None:
        """Fetch an outcome, once."""
        # It may be here before the answer to its submission.
        if self._open_jobs.get(open_job.job.id) is open_job and not open_job.fetching and not open_job.ended:
            open_job.fetching = True
            self._spawn(self._fetch_outcome(open_job), open_job.context)

    async def _receive(self, data: bytes) -> None:
        try:
            if len(data) < SMALL_MESSAGE:
                message = decode_message(data, self._max_pixels)
            else:
                message = await asyncio.to_thread(decode_message, data, self._max_pixels)
        except WireError as error:
            logger.warning("a message of a worker was refused: %s", error)
            return
        open_job = self._open_jobs.get(message.job_id)
        if open_job is None:
            return
        if isinstance(message.update, Stored):
            self.fetch(open_job)
        else:
            open_job.updates.put(message.update)

    async def _wait_for_redis(self, error: RedisError) -> None:
        """Pause; when Redis has been away for too long, the open jobs fail."""
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            logger.warning("Redis is away: %s", error)
            self._away_since = now
        elif now - self._away_since > self._patience_s:
            for open_job in self._open_jobs.values():
                open_job.end(Failed("unavailable", "The queue of image jobs cannot be reached."))
        await asyncio.sleep(RETRY_S)

    async def _fetch_outcome(self, open_job: OpenJob) -> None:
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
