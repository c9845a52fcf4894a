"""Saturated throughput, against full static batches by a plain loop.

**What is compared.** Rows per second of UNet calls; a picture with guidance takes two rows of each of its calls, one
without takes one. The numerator serves jobs that arrive at random faster than they can be drawn, in random order, with
5 to 50 steps, a third of them without guidance. The denominator is :func:`~load_tests.pool.traffic.static_batches`: the
same UNet on the same threads, the same number of rows in the same mix, as batches that are always full, of jobs that
are equal, with one scheduler for all. No server could have such jobs all the time, so this is the most that static
batching can do.

**Of what.** The engine alone, stepped by hand: it never waits, and decodes nothing. The pool of one process, which also
decodes, encodes and hands out the pictures. The pool behind Redis with a worker in a process of its own. The plain loop
that the pools are held against decodes its pictures, too.

Each is measured while its batch is full, between two slices of the plain loop, against the mean of which it is held.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from load_tests.pool.bench import Bench
from load_tests.pool.pools import MAX_DECODE_BATCH, local_pool, redis_pool
from load_tests.pool.traffic import JOB_ROWS, JOB_STEPS, MAX_BATCH, arrivals, draw, mixed_jobs, static_batches
from load_tests.pool.unet_calls import UNetCalls, seconds_per_row
from models.diffusion.engine import DiffusionEngine, Latents
from models.diffusion.job import Failed, RenderJob
from models.diffusion.open_jobs import OpenJobs
from models.diffusion.stats import EngineCounters
from server.pool.base import DiffusionPool
from server.tasks import end

OVERLOAD = 1.3
"""Jobs that arrive, in those that can be drawn."""

BACKLOG = 2 * MAX_BATCH
"""Jobs that are there from the start: the batch is full at once."""

NOT_DECODED = Failed("not_decoded", "The engine alone decodes nothing.")
WARM_UP_CALLS = 6
SILENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class PlainLoop:
    """What a slice of the plain loop took, in seconds for each row of UNet calls.

    Attributes:
        denoising: of full batches.
        decoding: of the pictures that come of as many rows.
    """

    denoising: float
    decoding: float


async def measure(bench: Bench) -> None:
    """Measure in rounds, and print."""
    batches = static_batches(bench.decoder, bench.spec)
    engine = SaturatedEngine(bench)
    worker_calls = UNetCalls(bench.folder / "worker-calls")
    ratios: dict[str, list[float]] = {"engine": [], "local_pool": [], "redis_pool": []}
    calls = bench.scale.calls
    async with (
        local_pool(bench.decoder, bench.spec) as local,
        redis_pool(bench.redis_url, "throughput", bench.decoder, bench.spec, worker_calls.path) as remote,
    ):
        before = await asyncio.to_thread(_plain_loop, bench, batches)
        for number in range(bench.scale.rounds):
            for name, of_name in ratios.items():
                match name:
                    case "engine":
                        taken = await asyncio.to_thread(engine.run, calls)
                    case "local_pool":
                        taken = await saturated(local, _jobs(bench, number), bench.calls, calls, before.denoising)
                    case "redis_pool":
                        taken = await saturated(remote, _jobs(bench, number), worker_calls, calls, before.denoising)
                after = await asyncio.to_thread(_plain_loop, bench, batches)
                plain_s = (before.denoising + after.denoising) / 2
                if name != "engine":
                    plain_s += (before.decoding + after.decoding) / 2
                of_name.append(plain_s / taken)
                before = after
    decoding = before.decoding / before.denoising
    print(f"plain loop: {1 / before.denoising:.0f} rows a second; to decode them takes {decoding:.1%} more")
    bench.results.table(
        "Rows of UNet calls a second, in those of the plain loop",
        ("of", "median", "least", "most"),
        [(name, statistics.median(of_name), min(of_name), max(of_name)) for name, of_name in ratios.items()],
    )
    pairs = zip(ratios["local_pool"], ratios["redis_pool"], strict=True)
    print(f"batch time with Redis to without: {statistics.median(local / remote for local, remote in pairs):.3f}")
    for name, of_name in ratios.items():
        bench.results.at_least(f"throughput_{name}_to_plain_loop", statistics.median(of_name), 0.97)


@torch.inference_mode()
def _plain_loop(bench: Bench, batches: Iterator[int]) -> PlainLoop:
    next(batches)
    started = time.perf_counter()
    rows = sum(next(batches) for _ in range(bench.scale.calls))
    denoised = time.perf_counter()
    latents = torch.randn(MAX_DECODE_BATCH, 4, bench.spec.latent_side, bench.spec.latent_side)
    bench.decoder.decode(latents.to(bench.decoder.device)).cpu()
    decoded = time.perf_counter()
    return PlainLoop((denoised - started) / rows, (decoded - denoised) / MAX_DECODE_BATCH / JOB_ROWS)


class SaturatedEngine:
    """The engine on this thread, with jobs that arrive between its steps by a Poisson process."""

    def __init__(self, bench: Bench) -> None:
        counters = EngineCounters()
        self._bench = bench
        self._jobs = mixed_jobs(bench.spec, bench.decoder.image_size, seed=0)
        self._arrivals = np.random.default_rng(0)
        self._open_jobs = OpenJobs(lambda _job_id, _update: None, counters)
        self._engine = DiffusionEngine(
            bench.decoder,
            bench.spec.states_shape,
            bench.spec.states(),
            self._open_jobs,
            self._end,
            counters,
            MAX_BATCH,
        )
        self._add(BACKLOG)

    def run(self, calls: int) -> float:
        """Take so many steps. Seconds for each row."""
        self._step()
        first = len(self._bench.calls)
        started = time.perf_counter()
        for _ in range(calls):
            self._step()
        return (time.perf_counter() - started) / int(self._bench.calls.read(first)["rows"].sum())

    def _step(self) -> None:
        self._add(self._arrivals.poisson(OVERLOAD * MAX_BATCH / JOB_STEPS))
        self._engine.step()

    def _add(self, jobs: int) -> None:
        for _ in range(jobs):
            job = next(self._jobs)
            self._engine.validate(job)
            self._open_jobs.open(job)
            self._engine.add(job)

    def _end(self, latents: Latents) -> None:
        latents.latents.cpu()
        self._open_jobs.end(latents.job.id, NOT_DECODED)


async def saturated(
    pool: DiffusionPool, jobs: Iterator[RenderJob], calls: UNetCalls, enough_calls: int, row_s: float
) -> float:
    """Seconds for each row, of a pool to which more jobs come than it can draw.

    Args:
        pool: idle, before and after.
        jobs: of the usual mix, without end.
        calls: of the pool's engine.
        enough_calls: to be measured.
        row_s: about what will be returned.
    """
    first = len(calls) + WARM_UP_CALLS
    arriving = asyncio.create_task(_overload(pool, jobs, OVERLOAD / (JOB_ROWS * row_s)))
    reaching = asyncio.create_task(calls.reach(first + enough_calls + 1))
    try:
        await asyncio.wait({arriving, reaching}, return_when=asyncio.FIRST_COMPLETED)
        if arriving.done():
            arriving.result()
        taken = seconds_per_row(calls.read(first)[: enough_calls + 1])
    finally:
        await end([arriving, reaching])
    await calls.fall_silent(SILENCE_S)
    return taken


async def _overload(pool: DiffusionPool, jobs: Iterator[RenderJob], jobs_per_s: float) -> None:
    """Send jobs until cancelled; then give up all of them."""
    async with asyncio.TaskGroup() as drawing:
        for job in itertools.islice(jobs, BACKLOG):
            drawing.create_task(draw(pool, job))
        async for job in arrivals(jobs, jobs_per_s, seed=0):
            drawing.create_task(draw(pool, job))


def _jobs(bench: Bench, number: int) -> Iterator[RenderJob]:
    return mixed_jobs(bench.spec, bench.decoder.image_size, seed=number)
