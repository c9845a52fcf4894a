"""What a worker does beside drawing so that its jobs stay its own: leases, cancellations, the announcement."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from redis.exceptions import RedisError

from server.observe import worker as metrics
from server.pool.queue.consumer import Consumer
from server.pool.wire import WorkerInfo, encode_worker
from server.pool.worker.held_jobs import HeldJobs
from server.pool.worker.outage import pause

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 4  # at least; and at least one a second, for the announcement's sake
ANNOUNCE_S = 1.0
SWEEP_S = 60.0


class LeaseKeeper:
    """Renews the leases on the jobs that a worker holds; one that it lost, or that nobody wants, it drops.

    Args:
        consumer: of the queue.
        held_jobs: of the worker.
        announcement: what servers are to know of the worker now.
        lease_s: how long jobs stay its own without renewal.

    Attributes:
        renewed_at: when the last renewal succeeded, on the loop's clock; None before the first.
    """

    def __init__(
        self, consumer: Consumer, held_jobs: HeldJobs, announcement: Callable[[], WorkerInfo], lease_s: float
    ) -> None:
        self.renewed_at: float | None = None
        self._consumer = consumer
        self._held_jobs = held_jobs
        self._announcement = announcement
        self._lease_s = lease_s

    async def renew(self) -> None:
        """Keep the leases and the announcement."""
        while True:
            asked = self._held_jobs.by_id
            try:
                lost = await self._consumer.renew(list(asked), encode_worker(self._announcement()))
            except RedisError as error:
                await pause("the leases cannot be renewed", error)
                continue
            self.renewed_at = asyncio.get_running_loop().time()
            for job_id in lost:
                held = asked[job_id]
                # One that has ended is no more in line: its outcome may have overtaken this renewal.
                if self._held_jobs.find(job_id) is held and not (held.given_up or held.ended or held.storing):
                    metrics.LEASES_LOST.inc()
                    held.context.run(logger.warning, "image job %s is not this worker's any more", job_id)
                    self._held_jobs.give_up(held, "lost")
            await asyncio.sleep(min(ANNOUNCE_S, self._lease_s / RENEWALS_PER_LEASE))

    async def hear_cancellations(self) -> None:
        """Drop jobs that nobody wants."""
        while True:
            try:
                async for job_id in self._consumer.cancellations():
                    if held := self._held_jobs.find(job_id):
                        self._held_jobs.give_up(held, "cancelled")
            except RedisError as error:
                await pause("cancellations cannot be heard", error)

    async def sweep(self) -> None:
        """Forget workers that died long ago."""
        while True:
            with contextlib.suppress(RedisError):
                await self._consumer.sweep()
            await asyncio.sleep(SWEEP_S)
