"""Latency under Poisson arrivals, against a server that batches whole requests.

Both servers are the local pool, with the same engine, and get the same jobs at the same moments: 70 % of what the pool
drew when it was saturated, a moment before. One admits a job at the next step. The other stands behind a gate that
opens when no job of the former batch is left to denoise (it does not wait for their decoding), and lets in all that
wait, up to a full batch. Latency is from arrival to the finished picture.

The model is a small one, whose calls take little longer for a batch than for one job, as those of a big model do on a
GPU. Where a call takes as long as its rows together, which is so for a UNet of some million parameters on a few CPU
cores, batches gain nothing, and no way to form them does either. How long steps take is printed.

Jobs differ in their numbers of steps, so a whole batch ends with fewer and fewer pictures in it, and at 70 % of the
other's throughput such a server may not keep up at all: its line, and with it this ratio, then grows with the length of
the run. How long each went on after the last arrival tells.
"""

import asyncio
import itertools
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from load_tests import bars
from load_tests.pool.bench import Bench
from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.pools import local_pool
from load_tests.pool.throughput import saturated
from load_tests.pool.traffic import JOB_ROWS, MAX_BATCH, arrivals, mixed_jobs
from load_tests.pool.unet_calls import UNetCalls
from models.diffusion.calibration import measure as measure_step_times
from models.diffusion.job import Progress, RenderJob
from server.pool.base import DiffusionPool

LOAD = 0.7
MAX_ROUNDS = 3

Gate = Callable[[], AbstractAsyncContextManager[None]]
"""Makes what a job passes through while it is denoised."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one server's jobs.

    Attributes:
        latencies_s: of all jobs.
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
    calls = UNetCalls(bench.folder / "latency-calls")
    decoder = random_decoder(SMALL, bench.decoder.device, calls)
    times = measure_step_times(decoder, SMALL.states_shape, MAX_BATCH)
    print("one step: " + ", ".join(f"{1000 * seconds:.1f} ms for {batch} jobs" for batch, seconds in times.measured))
    row_s = times.seconds(MAX_BATCH) / (2 * MAX_BATCH)
    ratios = []
    async with local_pool(decoder, SMALL) as pool:
        for number in range(min(MAX_ROUNDS, bench.scale.rounds)):
            mix = mixed_jobs(SMALL, decoder.image_size, seed=number)
            row_s = await saturated(pool, mix, calls, bench.scale.arrivals, row_s)
            jobs = list(itertools.islice(mix, bench.scale.arrivals))
            jobs_per_s = LOAD / (JOB_ROWS * row_s)
            by_steps = await _serve(pool, nullcontext, jobs, jobs_per_s)
            whole = await _serve(pool, WholeBatches(MAX_BATCH).pass_through, jobs, jobs_per_s)
            for name, run in (("joining at any step", by_steps), ("whole batches", whole)):
                print(
                    f"{len(jobs)} jobs at {jobs_per_s:.1f}/s, {name}: p50 {run.p50:.2f} s, p95 {run.p95:.2f} s, "
                    f"the last {run.late_s:.1f} s after its arrival",
                    flush=True,
                )
            ratios.append(by_steps.p95 / whole.p95)
    bars.at_most("latency_p95_to_whole_batches", statistics.median(ratios), 0.5)


async def _serve(pool: DiffusionPool, gate: Gate, jobs: Sequence[RenderJob], jobs_per_s: float) -> Run:
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
        async for job in arrivals(iter(jobs), jobs_per_s, seed=0):
            serving.create_task(serve(job))
        last_arrival = time.perf_counter()
    return Run(np.array(latencies_s), time.perf_counter() - last_arrival)
