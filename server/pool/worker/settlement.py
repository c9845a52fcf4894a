"""How a job leaves its worker: its outcome is stored, or it goes back into line."""

import asyncio
import logging
from collections.abc import Awaitable

from redis.exceptions import RedisError

from models.diffusion.job import Completed, Outcome
from server.observe import worker as metrics
from server.observe.tracing import tracer
from server.pool.queue.consumer import Consumer
from server.pool.wire import Message, Stored, encode_message, encode_outcome
from server.pool.worker.held_jobs import HeldJob, HeldJobs
from server.pool.worker.outage import pause

logger = logging.getLogger(__name__)


class Settlement:
    """Tells Redis what became of jobs. A job is acknowledged in the same script that stores its outcome.

    Args:
        consumer: of the queue.
        held_jobs: of the worker.
        patience_s: how long an outcome waits for a Redis that is away or full.
    """

    def __init__(self, consumer: Consumer, held_jobs: HeldJobs, patience_s: float) -> None:
        self._consumer = consumer
        self._held_jobs = held_jobs
        self._patience_s = patience_s

    async def conclude(self, held: HeldJob, outcome: Outcome, dead_letter: str = "") -> None:
        """Store an outcome, however often that has to be tried: the lease is renewed meanwhile.

        After a while others may try their luck, and that is not held against the job.
        """
        job_id = held.taken.id
        if dead_letter:
            logger.error("image job %s goes to the dead letters: %s", job_id, dead_letter)
        with tracer.start_as_current_span("store"):
            await self._store(held, outcome, dead_letter)

    async def _store(self, held: HeldJob, outcome: Outcome, dead_letter: str) -> None:
        job_id, loop = held.taken.id, asyncio.get_running_loop()
        data = await asyncio.to_thread(encode_outcome, outcome)
        message = encode_message(Message(job_id, Stored()))
        give_up_at = loop.time() + self._patience_s
        while not held.given_up:
            held.storing = True
            try:
                stored = await self._consumer.finish(job_id, data, message, dead_letter=dead_letter)
            except RedisError as error:
                await pause(f"the outcome of image job {job_id} cannot be stored", error)
                if loop.time() > give_up_at:
                    await self.hand_back(held, counts=False)
            else:
                ended = "dead_letter" if dead_letter else "completed" if isinstance(outcome, Completed) else "failed"
                if not stored:
                    self._held_jobs.give_up(held, "lost")
                elif held.given_up is None:
                    held.ended = ended
                    metrics.ENDED.labels(ended).inc()
                return
            finally:
                held.storing = False

    async def hand_back(self, held: HeldJob, *, counts: bool) -> None:
        """Put a job back in line. If Redis cannot be reached its lease runs out, which comes to the same."""
        if held.given_up is None:
            await self._let_go(held, self._consumer.hand_back(held.taken.id, counts=counts or not held.counted))

    async def ask_again(self, held: HeldJob) -> None:
        """Have the server of a job put it in line once more, with what it refers to."""
        await self._let_go(held, self._consumer.give_up(held.taken.id))

    async def _let_go(self, held: HeldJob, telling: Awaitable[object]) -> None:
        self._held_jobs.give_up(held, "handed_back")
        try:
            await telling
        except RedisError:
            logger.warning("image job %s could not be handed back", held.taken.id, exc_info=True)
