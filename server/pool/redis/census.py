"""How busy a pool of workers is, and what that means for the next job."""

import asyncio
import logging
import math
from dataclasses import dataclass

from redis.exceptions import RedisError

from server.pool.base import PoolLoad, Queued
from server.pool.queue.producer import Producer
from server.pool.wire import WireError, WorkerInfo, decode_worker

logger = logging.getLogger(__name__)

FRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class PoolCensus:
    """The workers of a pool and its line, as of one moment.

    Attributes:
        workers: those that take jobs.
        waiting: jobs that no worker holds.
        cost: of those, in steps of a picture of the checkpoint's own size.
        held: jobs that workers hold.
    """

    workers: tuple[WorkerInfo, ...]
    waiting: int
    cost: float
    held: int

    @property
    def load(self) -> PoolLoad:
        """The same in the words of the pool's contract."""
        return PoolLoad(
            queue_depth=self.waiting,
            running=self.held,
            seconds_ahead=self._seconds(self._job_steps),
            workers_alive=len(self.workers),
            steps_per_s=self._steps_per_s or None,
        )

    def place_in_line(self, cost: float, ahead: int) -> Queued:
        """Where a job stands.

        Args:
            cost: of the job, in steps of a picture of the checkpoint's own size.
            ahead: jobs in line before it or at work.
        """
        places = sum(worker.max_batch for worker in self.workers)
        if not places:
            return Queued(ahead, None)
        position = max(0, ahead - places + 1)
        batch = math.ceil((ahead + 1) / len(self.workers))
        step_s = max(worker.step_times.seconds(min(batch, worker.max_batch)) for worker in self.workers)
        finish_s = max((worker.finish_s or 0.0) for worker in self.workers)
        # Jobs that came since the census was taken are as big as the others, for all that is known.
        counted = self.waiting + sum(worker.running for worker in self.workers)
        waiting_s = self._seconds(position * (self._job_steps / counted if counted else cost))
        return Queued(position, waiting_s + step_s * cost + finish_s)

    @property
    def _job_steps(self) -> float:
        return self.cost + sum(worker.steps_ahead for worker in self.workers)

    @property
    def _steps_per_s(self) -> float:
        return sum(worker.step_times.job_steps_per_s(worker.max_batch) for worker in self.workers)

    def _seconds(self, job_steps: float) -> float:
        return job_steps / self._steps_per_s if self.workers else 0.0


class CensusTaker:
    """Takes a census when the last one is too old.

    Args:
        producer: asks Redis.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._latest: PoolCensus | None = None
        self._fresh_until = -math.inf
        self._taking = asyncio.Lock()

    async def take(self) -> PoolCensus | None:
        """A census that is at most half a second old; None if Redis cannot be reached.

        Whoever comes while one is being taken gets that one, also if it failed: a Redis that does not answer keeps all
        waiting for as long as one, and not one after the other.
        """
        async with self._taking:
            loop = asyncio.get_running_loop()
            now = loop.time()
            if now > self._fresh_until:
                try:
                    self._latest = await self._count()
                except RedisError:
                    self._latest, now = None, loop.time()
                self._fresh_until = now + FRESH_S
            return self._latest

    async def _count(self) -> PoolCensus:
        found = await self._producer.census()
        workers = tuple(info for data in found.workers if (info := _announced(data)) and not info.draining)
        return PoolCensus(workers, found.waiting, found.cost, found.held)


def _announced(data: bytes) -> WorkerInfo | None:
    try:
        return decode_worker(data)
    except WireError as error:
        logger.warning("the announcement of a worker was refused: %s", error)
        return None
