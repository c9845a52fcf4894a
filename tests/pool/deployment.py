"""Servers and workers on the event loop of a test, with a real Redis between them."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from redis.asyncio import Redis

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.step_times import StepTimes
from server.pool.connection import connect, dedicated
from server.pool.queue.consumer import Consumer
from server.pool.queue.keys import GROUP, Keys
from server.pool.queue.producer import Producer
from server.pool.redis.pool import RedisPool
from server.pool.wire import JobLimits
from server.pool.worker.worker import Worker
from server.settings import RedisSettings
from tests.pool.rendering import eventually
from tests.tiny_diffusion import EVERY_PREVIEW, STATES_SHAPE, random_states

MAX_BATCH = 2
MAX_STEPS = 998
CHECKPOINT_ID = "0123456789abcdef"
EMPTY_PROMPT = random_states(999)
STEP_TIMES = StepTimes(((1, 0.01), (2, 0.015)))
PRIORITIES = ("high", "normal")
BLOCK_S = 1.0
LONG_AGO_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker at work.

    Attributes:
        id: of the worker.
        worker: see :class:`~server.pool.worker.worker.Worker`.
        stop: set, it drains.
        task: its run, which ends after that or raises.
    """

    id: str
    worker: Worker
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        """Stop and wait for the goodbye."""
        self.stop.set()
        await asyncio.wait([self.task])


class Deployment:
    """Servers and workers of one checkpoint that share a namespace of a Redis. What is started here is ended with it.

    Args:
        url: of the Redis, for all that is started unless it is given another.
        namespace: nobody else's.
        decoder: that all workers draw with.
        checkpoint_id: of its weights.
    """

    def __init__(self, url: str, namespace: str, decoder: DiffusionDecoder, checkpoint_id: str = CHECKPOINT_ID) -> None:
        self.url = url
        self.namespace = namespace
        self.decoder = decoder
        self.keys = Keys(namespace, checkpoint_id)
        self.limits = JobLimits(STATES_SHAPE, decoder.description.size_multiple, 64 * 64, MAX_STEPS)
        self._numbers = itertools.count(1)
        self._started = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.client = connect(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await self.client.aclose()

    async def end(self) -> None:
        """End all that was started, the latest first."""
        await self._started.aclose()

    async def server(self, url: str | None = None, *, lease_s: float = 10.0, patience_s: float = 10.0) -> RedisPool:
        """The pool of one more server."""
        pool = self.unstarted_server(url, lease_s=lease_s, patience_s=patience_s)
        await pool.start(EMPTY_PROMPT)
        return pool

    def unstarted_server(self, url: str | None = None, *, lease_s: float = 10.0, patience_s: float = 10.0) -> RedisPool:
        """The pool of a server that does not know the states of the empty prompt yet."""
        settings = RedisSettings.model_validate(
            {"url": url or self.url, "namespace": self.namespace, "lease_s": lease_s, "patience_s": patience_s}
        )
        pool = RedisPool(settings, self.decoder.description, self.keys.checkpoint_id, self.limits)
        self._started.push_async_callback(pool.close)
        return pool

    async def worker(
        self,
        url: str | None = None,
        *,
        decoder: DiffusionDecoder | None = None,
        max_batch: int = MAX_BATCH,
        lease_s: float = 10.0,
        max_tries: int = 3,
        drain_s: float = 0.0,
    ) -> RunningWorker:
        """One more worker, which has announced itself."""
        id = f"worker-{next(self._numbers)}"
        worker = Worker(
            id,
            self.consumer(id, url, lease_s=lease_s),
            decoder or self.decoder,
            self.limits,
            STEP_TIMES,
            max_batch=max_batch,
            max_decode_batch=4,
            lease_s=lease_s,
            patience_s=10.0,
            max_tries=max_tries,
            preview_share=EVERY_PREVIEW,
        )
        stop = asyncio.Event()
        running = RunningWorker(id, worker, stop, asyncio.create_task(worker.run(stop, drain_s)))
        self._started.push_async_callback(running.end)
        await eventually(lambda: worker.renewed_at is not None or running.task.done())
        return running

    def consumer(self, worker_id: str, url: str | None = None, *, lease_s: float = 10.0) -> Consumer:
        """The queue as a worker sees it: by itself, a worker that does only what it is told."""
        client, blocking = self._clients(url)
        return Consumer(client, blocking, self.keys, worker_id, lease_s=lease_s)

    def producer(self, server_id: str, url: str | None = None, *, lease_s: float = 10.0) -> Producer:
        """The queue as a server sees it."""
        client, blocking = self._clients(url)
        return Producer(client, blocking, self.keys, server_id, lease_s=lease_s)

    def _clients(self, url: str | None) -> tuple[Redis, Redis]:
        client = connect(url or self.url)
        blocking = dedicated(client, block_s=BLOCK_S)
        self._started.push_async_callback(client.aclose)
        self._started.push_async_callback(blocking.aclose)
        return client, blocking

    async def names(self, kind: str = "") -> list[str]:
        """Keys of the namespace without their prefix, of one kind such as ``"job:"``."""
        pattern = f"{{{self.namespace}:*}}:*"
        found = {key.decode().partition("}:v1:")[2] async for key in self.client.scan_iter(pattern, 1000)}
        return sorted(name for name in found if name.startswith(kind))

    async def lasting(self) -> list[str]:
        """Keys without a time to live."""
        return [name for name in await self.names() if await self.client.pttl(self.keys.prefix + name) == -1]

    async def line(self) -> int:
        """Entries in the streams of jobs, whether a worker holds them or not."""
        return sum([await self.client.xlen(self.keys.jobs(priority)) for priority in PRIORITIES])

    async def run_out(self, worker_id: str) -> None:
        """Make it so long ago that a worker renewed its leases that nobody waits for it any more."""
        for priority in PRIORITIES:
            stream = self.keys.jobs(priority)
            pending = await self.client.xpending_range(stream, GROUP, "-", "+", 1000, worker_id)
            if pending:
                entries = [each["message_id"] for each in pending]
                await self.client.xclaim(stream, GROUP, worker_id, 0, entries, idle=LONG_AGO_MS, justid=True)

    async def held_by(self, worker_id: str) -> int:
        """Jobs that Redis counts as a worker's."""
        held = 0
        for priority in PRIORITIES:
            if await self.client.exists(self.keys.jobs(priority)):
                consumers = await self.client.xinfo_consumers(self.keys.jobs(priority), GROUP)
                held += sum(each["pending"] for each in consumers if each["name"].decode() == worker_id)
        return held

    async def is_clean(self) -> bool:
        """Whether no job has left anything, dead letters apart, and all keys will go by themselves."""
        of_jobs = [*await self.names("job:"), *await self.names("outcome:")]
        return not of_jobs and not await self.line() and not await self.lasting()

    async def dead_letters(self) -> list[tuple[str, str]]:
        """Job id and reason of each."""
        entries = await self.client.xrange(self.keys.dead)
        return [(fields[b"job"].decode(), fields[b"reason"].decode()) for _, fields in entries]
