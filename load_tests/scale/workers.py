"""Throughput over the number of workers, each a process whose UNet sleeps.

A worker is whole but for the UNet: it takes jobs from Redis, steps their schedulers, decodes, encodes and stores their
pictures. A call of its UNet sleeps for a fixed time however many rows it has, as a large UNet on a device of its own
would take the same time on every worker; so all of them can be on one machine, and what they lose to each other is what
the queue costs, and the cores that they share for the rest. Jobs differ in their steps, and there are always enough of
them. Counted are the rows of UNet calls, which are the denoising steps of pictures.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.pool.model import SCHEDULER_CONFIG, SMALL, WatchedDecoder, random_decoder
from load_tests.pool.pools import unattended_redis_pool, work_until_terminated
from load_tests.pool.traffic import MAX_BATCH, draw, make_job
from load_tests.pool.unet_calls import UNetCalls
from load_tests.results import Results, Series
from load_tests.scale.processes import spawned
from models.diffusion.conditioning import Conditioning
from models.diffusion.description import SamplingDefaults
from server.pool.redis.pool import RedisPool
from server.tasks import end

NAMESPACE = "scale"
CALL_S = 0.2
STEPS = (8, 10, 12)
OPEN_JOBS = 2 * MAX_BATCH
"""For each worker: as many wait as are drawn."""
WARM_UP_CALLS = 5
POLL_S = 0.1
START_LIMIT_S = 300
GOAL = 0.95


class SleepingDecoder(WatchedDecoder):
    """A decoder whose UNet is asleep.

    Args:
        call_s: seconds of each call.
    """

    def __init__(self, call_s: float, calls: UNetCalls, *modules: Any) -> None:
        super().__init__(calls, *modules)
        self._call_s = call_s

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        self._calls.write(rows=len(latents))
        time.sleep(self._call_s)
        return torch.zeros(latents.shape)


@dataclass(frozen=True, slots=True)
class Throughput:
    """What some workers did together.

    Attributes:
        rows_per_s: denoising steps of pictures.
        rows_per_call: of ``MAX_BATCH`` at most.
        pictures_per_s: that ended.
    """

    rows_per_s: float
    rows_per_call: float
    pictures_per_s: float


class Crew:
    """Worker processes, as many at a time as are wanted.

    Args:
        redis_url: where they find their jobs.
        folder: for what they write down of their UNet calls.
    """

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._redis_url = redis_url
        self._folder = folder
        self._processes: list[tuple[UNetCalls, AsyncExitStack]] = []

    @property
    def calls(self) -> list[UNetCalls]:
        """The UNet calls of each."""
        return [calls for calls, _ in self._processes]

    async def become(self, workers: int, pool: RedisPool) -> None:
        """Start some or stop some, and return when so many take jobs of this pool.

        Raises:
            TimeoutError: they do not.
        """
        await self._stop_beyond(workers)
        while (number := len(self._processes)) < workers:
            calls, process = UNetCalls(self._folder / f"calls-{number}"), AsyncExitStack()
            await process.enter_async_context(spawned(_work, self._redis_url, number, calls.path))
            self._processes.append((calls, process))
        await until_alive(pool, workers)

    async def close(self) -> None:
        """Stop all."""
        await self._stop_beyond(0)

    async def _stop_beyond(self, workers: int) -> None:
        while len(self._processes) > workers:
            _, process = self._processes.pop()
            await process.aclose()


async def measure(
    results: Results, redis_url: str, folder: Path, counts: tuple[int, ...], rounds: int, window_s: float
) -> None:
    """Measure with more and more workers, then with fewer and fewer, and so on by turns; and report."""
    found: dict[int, list[Throughput]] = {workers: [] for workers in counts}
    side = random_decoder(SMALL, torch.device("cpu"), UNetCalls(folder / "unused")).description
    pool = unattended_redis_pool(redis_url, NAMESPACE, side, SMALL)
    await pool.start(SMALL.states())
    async with AsyncExitStack() as at_end:
        at_end.push_async_callback(pool.close)
        crew = Crew(redis_url, folder)
        at_end.push_async_callback(crew.close)
        for number in range(rounds):
            for workers in reversed(counts) if number % 2 else counts:
                await crew.become(workers, pool)
                name = f"{number}-{workers}"
                found[workers].append(await throughput(pool, crew.calls, name, side.image_size, window_s))
    report(results, found)


def report(results: Results, found: Mapping[int, Sequence[Throughput]]) -> None:
    """A table and a plot of the windows by their number of workers, rising, and the goal for the most."""
    counts = tuple(found)
    rates = {workers: [each.rows_per_s for each in windows] for workers, windows in found.items()}
    means = {workers: statistics.mean(of_windows) for workers, of_windows in rates.items()}
    one = means[counts[0]] / counts[0]
    of_linear = {workers: mean / workers / one for workers, mean in means.items()}
    results.table(
        f"Workers whose UNet sleeps {1000 * CALL_S:.0f} ms a call",
        ("workers", "denoising steps a second", "least", "most", "of linear", "rows a call", "pictures a second"),
        [
            (
                workers,
                means[workers],
                min(rates[workers]),
                max(rates[workers]),
                of_linear[workers],
                statistics.mean(each.rows_per_call for each in windows),
                statistics.mean(each.pictures_per_s for each in windows),
            )
            for workers, windows in found.items()
        ],
    )
    results.plot(
        "Scale: workers",
        "workers",
        "denoising steps a second",
        [
            Series("measured", tuple(map(float, counts)), tuple(means.values())),
            Series("linear", tuple(map(float, counts)), tuple(one * workers for workers in counts)),
        ],
    )
    results.at_least(f"scale_{counts[-1]}_workers_of_linear", of_linear[counts[-1]], GOAL)


async def throughput(pool: RedisPool, calls: list[UNetCalls], name: str, side: int, window_s: float) -> Throughput:
    """What these workers do while there are more jobs than they can take.

    Args:
        pool: that they work for.
        calls: of their UNets.
        name: of the jobs, which no other may have had.
        side: of the pictures.
        window_s: of what counts.
    """
    numbers = itertools.count()
    steps = itertools.cycle(STEPS)
    finished = 0

    async def ask() -> None:
        nonlocal finished
        while True:
            await draw(pool, make_job(SMALL, side, f"{name}-{next(numbers)}", steps=next(steps), guidance_scale=1.0))
            finished += 1

    before = [len(each) for each in calls]
    asking = [asyncio.create_task(ask()) for _ in range(OPEN_JOBS * len(calls))]
    try:
        for each, count in zip(calls, before, strict=True):
            await each.reach(count + WARM_UP_CALLS)
        began, finished_before = time.perf_counter(), finished
        await asyncio.sleep(window_s)
        until, finished_after = time.perf_counter(), finished
    finally:
        await end(asking)
    entries = np.concatenate([each.read(count) for each, count in zip(calls, before, strict=True)])
    seen = entries[(entries["started"] >= began) & (entries["started"] < until)]
    return Throughput(
        rows_per_s=float(seen["rows"].sum()) / (until - began),
        rows_per_call=float(seen["rows"].mean()),
        pictures_per_s=(finished_after - finished_before) / (until - began),
    )


async def until_alive(pool: RedisPool, workers: int) -> None:
    """Return when so many workers take jobs, and no more.

    Raises:
        TimeoutError: they do not.
    """
    async with asyncio.timeout(START_LIMIT_S):
        while (await pool.load()).workers_alive != workers:  # noqa: ASYNC110 - they say so in Redis
            await asyncio.sleep(POLL_S)


def _work(url: str, number: int, path: Path) -> None:
    """The process of a worker."""
    torch.set_num_threads(1)
    calls = UNetCalls(path)
    decoder = sleeping_decoder(calls, CALL_S)
    asyncio.run(work_until_terminated(url, NAMESPACE, decoder, SMALL, f"scale-{number}"))


def sleeping_decoder(calls: UNetCalls, call_s: float) -> SleepingDecoder:
    """One of the smallest kind."""
    drawn = random_decoder(SMALL, torch.device("cpu"), calls)
    return SleepingDecoder(call_s, calls, drawn.projector, drawn.unet, drawn.vae, SCHEDULER_CONFIG, SamplingDefaults())
