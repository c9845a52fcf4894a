"""How a server puts its jobs in line, however often that has to be tried."""

import asyncio
import logging

import torch
from opentelemetry.trace import SpanKind
from redis.exceptions import RedisError

from models.diffusion.description import DecoderDescription
from models.diffusion.job import RenderJob
from server.observe import metrics
from server.observe.tracing import tracer
from server.pool.base import Queued, RenderError
from server.pool.origin import encode_origin, here
from server.pool.queue.producer import DuplicateJobError, Producer, StatesMissingError, Submission
from server.pool.redis.census import CensusTaker
from server.pool.redis.open_job import OpenJob
from server.pool.wire import JobLimits, encode_job, encode_states, states_digest

logger = logging.getLogger(__name__)

RETRY_S = 0.1
SLOWEST_RETRY_S = 1.0


class Submitter:
    """Checks and encodes jobs, and submits them.

    Args:
        producer: of the queue.
        census: says where a job stands.
        description: of what the workers draw with.
        limits: of what they draw.
        patience_s: how long a job waits for a Redis that is away.
    """

    def __init__(
        self,
        producer: Producer,
        census: CensusTaker,
        description: DecoderDescription,
        limits: JobLimits,
        patience_s: float,
    ) -> None:
        self._producer = producer
        self._census = census
        self._description = description
        self._limits = limits
        self._patience_s = patience_s

    async def share(self, empty_prompt: torch.Tensor) -> None:
        """Take the dream states ``[num_dream_queries, hidden_size]`` that jobs refer to which bring none themselves."""
        self._empty_prompt = await asyncio.to_thread(encode_states, empty_prompt)
        self._empty_prompt_digest = await asyncio.to_thread(states_digest, empty_prompt)

    async def prepare(self, job: RenderJob) -> OpenJob:
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
        return OpenJob(job, submission, now, None if job.timeout_s is None else now + job.timeout_s)

    async def submit(self, open_job: OpenJob) -> Queued:
        """Put a job in line, within the time that it may take.

        Raises:
            RenderError: that time is over, Redis stayed away for too long, or the job's id is another server's.
        """
        try:
            async with asyncio.timeout_at(open_job.deadline):
                return await self._submit(open_job)
        except TimeoutError:
            raise RenderError("timeout", "the picture was not finished in time") from None

    async def _submit(self, open_job: OpenJob) -> Queued:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
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

    async def _put_in_line(self, open_job: OpenJob) -> int | None:
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

    async def _queued(self, open_job: OpenJob, ahead: int) -> Queued:
        census = await self._census.take()
        return Queued(ahead, None) if census is None else census.place_in_line(open_job.submission.cost, ahead)
