"""Throughput over the number of workers, each a process whose UNet sleeps.

A worker is whole but for the UNet: it takes jobs from Redis, steps their schedulers, decodes, encodes and stores their
pictures. A call of its UNet sleeps for a fixed time however many rows it has, as a large UNet on a device of its own
would take the same time on every worker; so all of them can be on one machine, and what they lose to each other is what
the queue costs, and the cores that they share for the rest. Jobs differ in their steps, and there are always enough of
them. Counted are the rows of UNet calls, which are the denoising steps of pictures.
"""

import asyncio
import itertools
import time
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
        workers: of them.
        rows_per_s: denoising steps of pictures.
        rows_per_call: of ``MAX_BATCH`` at most.
        pictures_per_s: that ended.
    """

    workers: int
    rows_per_s: float
    rows_per_call: float
    pictures_per_s: float


async def measure(results: Results, redis_url: str, folder: Path, counts: tuple[int, ...], window_s: float) -> None:
    """Measure with more and more workers, and report."""
    found = []
    calls: list[UNetCalls] = []
    side = random_decoder(SMALL, torch.device("cpu"), UNetCalls(folder / "unused")).description
    pool = unattended_redis_pool(redis_url, NAMESPACE, side, SMALL)
    await pool.start(SMALL.states())
    async with AsyncExitStack() as at_end:
        at_end.push_async_callback(pool.close)
        for workers in counts:
            while len(calls) < workers:
                calls.append(UNetCalls(folder / f"calls-{len(calls)}"))
                await at_end.enter_async_context(spawned(_work, redis_url, len(calls) - 1, calls[-1].path))
            await until_alive(pool, workers)
            found.append(await throughput(pool, calls, side.image_size, window_s))
    one = found[0].rows_per_s / found[0].workers
    efficiency = [each.rows_per_s / each.workers / one for each in found]
    results.table(
        f"Workers whose UNet sleeps {1000 * CALL_S:.0f} ms a call",
        ("workers", "denoising steps a second", "of linear", "rows a call", "pictures a second"),
        [
            (each.workers, each.rows_per_s, of_linear, each.rows_per_call, each.pictures_per_s)
            for each, of_linear in zip(found, efficiency, strict=True)
        ],
    )
    results.plot(
        "Scale: workers",
        "workers",
        "denoising steps a second",
        [
            Series("measured", tuple(map(float, counts)), tuple(each.rows_per_s for each in found)),
            Series("linear", tuple(map(float, counts)), tuple(one * workers for workers in counts)),
        ],
    )
    results.at_least(f"scale_{counts[-1]}_workers_of_linear", efficiency[-1], GOAL)


async def throughput(pool: RedisPool, calls: list[UNetCalls], side: int, window_s: float) -> Throughput:
    """What these workers do while there are more jobs than they can take."""
    numbers = itertools.count()
    steps = itertools.cycle(STEPS)
    finished = 0

    async def ask() -> None:
        nonlocal finished
        while True:
            id = f"{len(calls)}-{next(numbers)}"
            await draw(pool, make_job(SMALL, side, id, steps=next(steps), guidance_scale=1.0))
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
        workers=len(calls),
        rows_per_s=float(seen["rows"].sum()) / (until - began),
        rows_per_call=float(seen["rows"].mean()),
        pictures_per_s=(finished_after - finished_before) / (until - began),
    )


async def until_alive(pool: RedisPool, workers: int) -> None:
    """Return when so many workers take jobs.

    Raises:
        TimeoutError: they do not.
    """
    async with asyncio.timeout(START_LIMIT_S):
        while (await pool.load()).workers_alive < workers:  # noqa: ASYNC110 - they say so in Redis
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
