"""Latency under Poisson arrivals, against a server that batches whole requests.

Both servers are the local pool, with the same engine, and get the same jobs at the same moments: 70 % of what the pool
drew when it was saturated, a moment before. One admits a job at the next step. The other stands behind a gate that
opens when no job of the former batch is left to denoise (it does not wait for their decoding), and lets in all that
wait, up to a full batch. Latency is from arrival to the finished picture.

Jobs differ in their numbers of steps, so a whole batch ends with fewer and fewer pictures in it, and at 70 % of the
other's throughput such a server may not keep up at all: its line, and with it this ratio, then grows with the length of
the run. How long each went on after the last arrival tells.
"""

import asyncio
import itertools
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from load_tests import bars
from load_tests.pool.bench import Bench
from load_tests.pool.pools import local_pool
from load_tests.pool.throughput import saturated
from load_tests.pool.traffic import JOB_ROWS, MAX_BATCH, arrivals, mixed_jobs
from models.diffusion.job import Progress, RenderJob
from server.pool.base import DiffusionPool

LOAD = 0.7
FIRST_GUESS_ROW_S = 0.01

Gate = Callable[[], AbstractAsyncContextManager[None]]
"""Makes what a job passes through while it is denoised."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one server's jobs.

    Attributes:
        latencies_s: sorted.
        late_s: from the last arrival to the last picture.
    """

    latencies_s: np.ndarray
    late_s: float

    @property
    def p50(self) -> float:
        """Median latency."""
        return float(np.percentile(self.latencies_s, 50))

    @property
    def p95(self) -> float:
        """Latency that one in twenty jobs exceeds."""
        return float(np.percentile(self.latencies_s, 95))


class WholeBatches:
    """Lets jobs in as batches, each when the former has ended."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def pass_through(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._open()
        await place
        try:
            yield
        finally:
            self._inside -= 1
            self._open()

    def _open(self) -> None:
        while self._waiting and not self._inside:
            for _ in range(min(self._limit, len(self._waiting))):
                self._inside += 1
                self._waiting.popleft().set_result(None)


async def measure(bench: Bench) -> None:
    """Measure in rounds, and print."""
    ratios = []
    async with local_pool(bench.decoder, bench.spec) as pool:
        row_s = await saturated(bench, pool, bench.calls, FIRST_GUESS_ROW_S, seed=1000)
        for number in range(min(3, bench.scale.rounds)):
            row_s = await saturated(bench, pool, bench.calls, row_s, seed=1001 + number)
            jobs_per_s = LOAD / (JOB_ROWS * row_s)
            by_steps = await _serve(bench, pool, nullcontext, jobs_per_s, seed=number)
            whole = await _serve(bench, pool, WholeBatches(MAX_BATCH).pass_through, jobs_per_s, seed=number)
            for name, run in (("joining at any step", by_steps), ("whole batches", whole)):
                print(
                    f"{bench.scale.arrivals} jobs at {jobs_per_s:.2f}/s, {name}: p50 {run.p50:.2f} s, "
                    f"p95 {run.p95:.2f} s, the last {run.late_s:.1f} s after its arrival",
                    flush=True,
                )
            ratios.append(by_steps.p95 / whole.p95)
    bars.at_most("latency_p95_to_whole_batches", statistics.median(ratios), 0.5)


async def _serve(bench: Bench, pool: DiffusionPool, gate: Gate, jobs_per_s: float, seed: int) -> Run:
    jobs = itertools.islice(mixed_jobs(bench.spec, bench.decoder.image_size, seed), bench.scale.arrivals)
    latencies_s: list[float] = []

    async def serve(job: RenderJob) -> None:
        arrived = time.perf_counter()
        async with aclosing(pool.render(job)) as updates:
            async with gate():
                async for update in updates:
                    if isinstance(update, Progress) and update.step == job.steps:
                        break
            async for _ in updates:
                pass
        latencies_s.append(time.perf_counter() - arrived)

    async with asyncio.TaskGroup() as serving:
        async for job in arrivals(jobs, jobs_per_s, seed):
            serving.create_task(serve(job))
        last_arrival = time.perf_counter()
    return Run(np.sort(latencies_s), time.perf_counter() - last_arrival)
