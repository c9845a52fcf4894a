"""Latency under Poisson arrivals, against a server that batches whole requests.

Both servers are the local pool, with the same engine, and get the same jobs at the same moments: 70 % of what the pool
drew when it was saturated, a moment before. One admits a job at the next step, and hands out each picture when it is
finished. The other stands behind a gate that opens when no job of the former batch is left to denoise, lets in all that
wait, up to a full batch, and hands out their pictures together, when the batch has ended. (Yu et al., "Orca", OSDI
2022, section 3, has these two properties of scheduling by requests.) What that server would reach if pictures could
leave their batch early is printed, too. It never computes rows of jobs that are finished, as a static batch does.

The model is a small one, whose calls take hardly longer for a batch than for one job. That is where batches pay. Where
a call takes as long as its rows together, as those of a UNet of some million parameters on a few CPU cores do, nothing
is gained by batches, nor by any way to form them. How long steps take is told.

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
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from load_tests.pool.bench import Bench
from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.pools import local_pool
from load_tests.pool.throughput import saturated
from load_tests.pool.traffic import JOB_ROWS, MAX_BATCH, arrivals, mixed_jobs
from load_tests.pool.unet_calls import UNetCalls
from load_tests.results import Cell
from models.diffusion.calibration import measure as measure_step_times
from models.diffusion.job import Progress, RenderJob
from server.pool.base import DiffusionPool

LOAD = 0.7
MAX_ROUNDS = 3


@dataclass(slots=True)
class Batch:
    """Jobs that are let in together.

    Attributes:
        left: of them, those that are not denoised yet.
        ended: when none is.
    """

    left: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class WholeBatches:
    """Lets jobs in as batches, each when the former has ended."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._batch = Batch(0)
        self._waiting: deque[asyncio.Future[Batch]] = deque()

    @asynccontextmanager
    async def pass_through(self) -> AsyncIterator[Batch]:
        """Wait for a place, and hold it while a job is denoised."""
        place: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._open()
        batch = await place
        try:
            yield batch
        finally:
            batch.left -= 1
            self._open()

    def _open(self) -> None:
        if self._batch.left:
            return
        self._batch.ended.set()
        self._batch = Batch(min(self._limit, len(self._waiting)))
        for _ in range(self._batch.left):
            self._waiting.popleft().set_result(self._batch)


@asynccontextmanager
async def open_gate() -> AsyncIterator[Batch]:
    """Let a job in at once, as a batch of its own."""
    batch = Batch(1)
    yield batch
    batch.ended.set()


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one server's jobs. Latencies in seconds.

    Attributes:
        finished: when a picture is finished.
        handed_out: when its whole batch is, too.
        late: from the last arrival to the last picture.
    """

    finished: list[float]
    handed_out: list[float]
    late: float


async def measure(bench: Bench) -> None:
    """Measure in rounds, and print."""
    calls = UNetCalls(bench.folder / "latency-calls")
    decoder = random_decoder(SMALL, bench.decoder.device, calls)
    times = measure_step_times(decoder, SMALL.states_shape, MAX_BATCH)
    bench.results.table(
        "One step of the small model", ("jobs", "ms"), [(batch, 1000 * seconds) for batch, seconds in times.measured]
    )
    row_s = times.seconds(MAX_BATCH) / (2 * MAX_BATCH)
    ratios = []
    rows: list[tuple[Cell, ...]] = []
    async with local_pool(decoder, SMALL) as pool:
        for number in range(min(MAX_ROUNDS, bench.scale.rounds)):
            mix = mixed_jobs(SMALL, decoder.image_size, seed=number)
            row_s = await saturated(pool, mix, calls, bench.scale.arrivals, row_s)
            jobs = list(itertools.islice(mix, bench.scale.arrivals))
            jobs_per_s = LOAD / (JOB_ROWS * row_s)
            by_steps = await _serve(pool, open_gate, jobs, jobs_per_s)
            whole = await _serve(pool, WholeBatches(MAX_BATCH).pass_through, jobs, jobs_per_s)
            for name, latencies, late in (
                ("joining at any step", by_steps.handed_out, by_steps.late),
                ("whole batches", whole.handed_out, whole.late),
                ("whole batches that pictures leave early", whole.finished, whole.late),
            ):
                p50, p95 = map(float, np.percentile(latencies, [50, 95]))
                rows.append((number + 1, name, jobs_per_s, p50, p95, late))
            ratios.append(float(np.percentile(by_steps.handed_out, 95) / np.percentile(whole.handed_out, 95)))
    bench.results.table(
        f"Latency of {bench.scale.arrivals} jobs at {LOAD:.0%} of what the pool can draw",
        ("round", "server", "jobs a second", "p50, s", "p95, s", "ended after the last arrival, s"),
        rows,
    )
    bench.results.at_most("latency_p95_to_whole_batches", statistics.median(ratios), 0.5)


async def _serve(
    pool: DiffusionPool,
    gate: Callable[[], AbstractAsyncContextManager[Batch]],
    jobs: Sequence[RenderJob],
    jobs_per_s: float,
) -> Run:
    finished: list[float] = []
    handed_out: list[float] = []

    async def serve(job: RenderJob) -> None:
        arrived = time.perf_counter()
        async with aclosing(pool.render(job)) as updates:
            async with gate() as batch:
                async for update in updates:
                    if isinstance(update, Progress) and update.step == job.steps:
                        break
            async for _ in updates:
                pass
        finished.append(time.perf_counter() - arrived)
        await batch.ended.wait()
        handed_out.append(time.perf_counter() - arrived)

    async with asyncio.TaskGroup() as serving:
        async for job in arrivals(iter(jobs), jobs_per_s, seed=0):
            serving.create_task(serve(job))
        last_arrival = time.perf_counter()
    return Run(finished, handed_out, time.perf_counter() - last_arrival)
