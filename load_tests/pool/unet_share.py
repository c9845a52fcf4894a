"""The UNet's own share of the time while the batch is full. What is left of it is all that is done around the UNet.

Timed is the UNet's forward pass itself, whoever calls it, and how long it is from the beginning of one call to that of
the next. Between them are schedulers, guidance, jobs that join and leave, and what callers are told. The thread that
decodes works beside: what it takes of a core makes calls longer, which the ratio of throughput shows and this does not.
The plain loop of :mod:`load_tests.pool.throughput` does hardly more than call the UNet, and so tells what can be had.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from load_tests.pool.bench import Bench
from load_tests.pool.pools import local_pool
from load_tests.pool.throughput import WARM_UP_CALLS, SaturatedEngine, saturated
from load_tests.pool.traffic import mixed_jobs, static_batches
from models.diffusion.decoder import DiffusionDecoder

PLAIN, ENGINE, POOL = "plain loop", "engine", "local pool"
GOAL = 0.95

Span = tuple[float, float]
"""A call of the UNet, from and to, by ``time.perf_counter()``."""


async def measure(bench: Bench) -> None:
    """Measure in rounds, and report."""
    batches, engine = static_batches(bench.decoder, bench.spec), SaturatedEngine(bench)
    shares: dict[str, list[float]] = {PLAIN: [], ENGINE: [], POOL: []}
    calls = bench.scale.calls
    async with local_pool(bench.decoder, bench.spec) as pool:
        for number in range(bench.scale.rounds):
            with timed_unet(bench.decoder) as spans:
                row_s = await asyncio.to_thread(seconds_per_row, batches, calls)
            shares[PLAIN].append(share(spans))
            with timed_unet(bench.decoder) as spans:
                await asyncio.to_thread(engine.run, calls)
            shares[ENGINE].append(share(spans))
            jobs = mixed_jobs(bench.spec, bench.decoder.image_size, seed=number)
            with timed_unet(bench.decoder) as spans:
                await saturated(pool, jobs, bench.calls, calls, row_s)
            shares[POOL].append(share(spans[WARM_UP_CALLS:][: calls + 1]))
    bench.results.table(
        "The UNet's own share of the time, batches full",
        ("of", "median", "least", "most"),
        [(name, statistics.median(of_name), min(of_name), max(of_name)) for name, of_name in shares.items()],
    )
    bench.results.at_least("unet_share_of_local_pool", statistics.median(shares[POOL]), GOAL)


@contextmanager
def timed_unet(decoder: DiffusionDecoder) -> Iterator[list[Span]]:
    """Time the calls of a UNet, to which a list is filled."""
    spans: list[Span] = []
    began = 0.0

    def begin(*_: Any) -> None:
        nonlocal began
        decoder.synchronize()
        began = time.perf_counter()

    def end(*_: Any) -> None:
        decoder.synchronize()
        spans.append((began, time.perf_counter()))

    hooks = decoder.unet.register_forward_pre_hook(begin), decoder.unet.register_forward_hook(end)
    try:
        yield spans
    finally:
        for hook in hooks:
            hook.remove()


def share(spans: Sequence[Span]) -> float:
    """Of the time from the beginning of the first call to that of the last, which is not counted."""
    return sum(ended - began for began, ended in spans[:-1]) / (spans[-1][0] - spans[0][0])


def seconds_per_row(batches: Iterator[int], calls: int) -> float:
    """Of so many calls of the plain loop, and one before them."""
    next(batches)
    began = time.perf_counter()
    rows = sum(next(batches) for _ in range(calls))
    return (time.perf_counter() - began) / rows
