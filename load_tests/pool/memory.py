"""Memory of a server process with 1,000 queued jobs.

A process that is a server's pool and nothing else sends jobs through Redis, 1,000 open at a time: as one ends, another
comes. The worker here draws nothing: it ends jobs as fast as it can take them, each with a small picture. Resident
memory is that of the server's process alone, beyond what it had before its first job.

A queued job holds what nobody else has, its dream states, and their encoded copy for the queue. So memory is bounded by
some times the states of the open jobs, and must not grow with those that have ended. The allocator takes some thousand
jobs to get what it needs for all threads; growth is measured from then on.
"""

import asyncio
import itertools
import math
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from load_tests.pool.bench import Bench
from load_tests.pool.model import ModelSpec
from load_tests.pool.pools import CHECKPOINT_ID, WORKER_ID, unattended_redis_pool
from load_tests.pool.traffic import draw, make_job
from load_tests.results import Series
from models.diffusion.description import DecoderDescription
from models.diffusion.encoding import encode_image
from models.diffusion.job import Completed, RenderedImage
from server.pool.connection import connect, dedicated
from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.queue.keys import Keys
from server.pool.wire import Message, Stored, encode_message, encode_outcome
from server.pool.worker.worker import WAIT_S
from server.settings import RedisSettings
from server.tasks import end

NAMESPACE = "memory"
OPEN = 1000
REPORT_EVERY = 500
TAKEN_TOGETHER = 16
MIB = 2**20

Resident = dict[int, int]
"""Bytes by the number of jobs that had ended."""


async def measure(bench: Bench) -> None:
    """Measure, and print."""
    settled, last = bench.scale.settling_jobs, bench.scale.settling_jobs + bench.scale.watched_jobs
    finishing = asyncio.create_task(_finish_jobs(bench.redis_url, bench.decoder.image_size))
    serving = asyncio.create_task(
        asyncio.to_thread(_watch_server, bench.redis_url, bench.decoder.description, bench.spec, last)
    )
    try:
        await asyncio.wait({finishing, serving}, return_when=asyncio.FIRST_COMPLETED)
        if finishing.done():
            finishing.result()
        resident = await serving
    finally:
        await end([finishing])
    before = resident.pop(0)
    taken = {jobs: size - before for jobs, size in resident.items()}
    bench.results.table(
        f"Memory of a server process with {OPEN} jobs open, beyond the {before / MIB:.0f} MiB before its first job",
        ("jobs that have ended", "MiB"),
        [(jobs, size / MIB) for jobs, size in taken.items()],
    )
    memory = Series("server", tuple(map(float, taken)), tuple(size / MIB for size in taken.values()))
    bench.results.plot("Pool: memory of a server process", "jobs that have ended", "MiB", [memory])
    states = OPEN * 4 * math.prod(bench.spec.states_shape)
    bench.results.at_most("server_memory_to_states_of_open_jobs", taken[last] / states, 5)
    bench.results.at_most(f"server_memory_growth_over_{last - settled}_jobs", taken[last] / taken[settled], 1.05)


def _watch_server(url: str, description: DecoderDescription, spec: ModelSpec, jobs: int) -> Resident:
    """Run a server process to its end. Blocks."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, url, description, spec, jobs), daemon=True
    )
    server.start()
    theirs.close()
    resident: Resident = {}
    while jobs not in resident:
        ended, size = ours.recv()
        resident[ended] = size
    server.join()
    return resident


def _serve(report: Connection, url: str, description: DecoderDescription, spec: ModelSpec, jobs: int) -> None:
    """The process of the server."""
    asyncio.run(_send_jobs(report, url, description, spec, jobs))


async def _send_jobs(report: Connection, url: str, description: DecoderDescription, spec: ModelSpec, jobs: int) -> None:
    pool = unattended_redis_pool(url, NAMESPACE, description, spec)
    await pool.start(spec.states())
    ended = 0
    numbers = itertools.count()
    report.send((0, _resident_bytes()))

    async def send() -> None:
        nonlocal ended
        while ended < jobs:
            id = f"memory-{next(numbers)}"
            await draw(pool, make_job(spec, description.image_size, id, steps=20, guidance_scale=3.5))
            ended += 1
            if ended % REPORT_EVERY == 0:
                report.send((ended, _resident_bytes()))

    try:
        async with asyncio.TaskGroup() as sending:
            for _ in range(OPEN):
                sending.create_task(send())
    finally:
        await pool.close()


def _resident_bytes() -> int:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _finish_jobs(url: str, side: int) -> None:
    """A worker that draws nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    outcome = encode_outcome(Completed(RenderedImage(encode_image(pixels, "png"), "png", pixels)))
    async with connect(url) as client, dedicated(client, block_s=WAIT_S) as blocking:
        keys = Keys(NAMESPACE, CHECKPOINT_ID)
        consumer = Consumer(client, blocking, keys, WORKER_ID, lease_s=RedisSettings().lease_s)

        async def finish(job: TakenJob) -> None:
            await consumer.finish(job.id, outcome, encode_message(Message(job.id, Stored())))

        while True:
            taken = await consumer.take(TAKEN_TOGETHER, reclaim=False) or await consumer.wait(WAIT_S)
            await asyncio.gather(*map(finish, taken))
