"""What a picture costs Redis, and so how many pictures a second one Redis can carry.

A server's pool sends jobs through a real Redis to a simulated renderer in another process, which takes them with the
worker's own protocol, tells of eight steps, renews its leases and stores a picture, without drawing any. Redis itself
says what CPU time its one thread took and for which commands. The two processes of Python take far more of it than
Redis does, so the rate of the goal is not reached: what it takes of Redis at that rate is the time for one picture
times the rate. That errs on the safe side, for at a higher rate Redis finds more than one command at each of its looks
at its connections.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from redis.asyncio import Redis

from load_tests.pool.model import ModelSpec
from load_tests.pool.pools import CHECKPOINT_ID, unattended_redis_pool
from load_tests.results import Results
from load_tests.scale.processes import spawned
from models.diffusion.description import DecoderDescription
from models.diffusion.encoding import encode_image
from models.diffusion.job import Completed, Progress, RenderedImage, RenderJob
from models.diffusion.step_times import StepTimes
from server.pool.connection import connect, dedicated
from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.queue.keys import Keys
from server.pool.redis.pool import RedisPool
from server.pool.wire import Message, Stored, WorkerInfo, encode_message, encode_outcome, encode_worker
from server.pool.worker.executor import PROGRESS_MESSAGES
from server.pool.worker.worker import WAIT_S
from server.settings import RedisSettings
from server.tasks import end

GOAL_PER_S = 1000
OPEN_JOBS = 64
TAKEN_TOGETHER = 16
STEPS = 50
WARM_UP_PICTURES = 200
POLL_S = 0.05
SHOWN_COMMANDS = 6


@dataclass(frozen=True, slots=True)
class Size:
    """How large what travels is.

    Attributes:
        name: of it.
        states_shape: of dream states.
        dtype: of the same.
        side: of pictures, in pixels.
    """

    name: str
    states_shape: tuple[int, int]
    dtype: torch.dtype
    side: int


SIZES = (
    Size("embedded model, 64 px", (16, 256), torch.float32, 64),
    Size("published model, 512 px", (64, 4096), torch.bfloat16, 512),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What pictures cost a Redis.

    Attributes:
        per_s: pictures.
        cpu_ms: of its thread, for each picture.
        kib: that went in and out, for each picture.
        commands: calls and milliseconds for each picture, by command; scripts and what they call count both.
    """

    per_s: float
    cpu_ms: float
    kib: float
    commands: Mapping[str, tuple[float, float]]


async def measure(results: Results, redis_url: str, description: DecoderDescription, pictures: int) -> None:
    """Measure each size, and report."""
    costs = {size: await cost(redis_url, description, size, pictures) for size in SIZES}
    results.table(
        "What a picture costs Redis",
        (
            "size",
            "pictures a second, here",
            "CPU a picture, ms",
            "in and out, KiB",
            f"of a core at {GOAL_PER_S} a second",
            "saturated at, a second",
        ),
        [
            (size.name, each.per_s, each.cpu_ms, each.kib, each.cpu_ms * GOAL_PER_S / 1000, 1000 / each.cpu_ms)
            for size, each in costs.items()
        ],
    )
    rows = []
    for size, each in costs.items():
        dearest = sorted(each.commands.items(), key=lambda item: -item[1][1])[:SHOWN_COMMANDS]
        rows += [(size.name, name, calls, 1000 * taken_ms) for name, (calls, taken_ms) in dearest]
    results.table("Its dearest commands, for one picture", ("size", "command", "calls", "µs"), rows)


async def cost(redis_url: str, description: DecoderDescription, size: Size, pictures: int) -> Cost:
    """What so many pictures cost."""
    namespace = f"cost-{size.side}"
    spec = ModelSpec(states_shape=size.states_shape)
    description = replace(description, hidden_size=size.states_shape[1], image_size=size.side)
    pool = unattended_redis_pool(redis_url, namespace, description, spec)
    async with AsyncExitStack() as at_end:
        redis = await at_end.enter_async_context(Redis.from_url(redis_url))
        await pool.start(torch.zeros(size.states_shape, dtype=size.dtype))
        at_end.push_async_callback(pool.close)
        await at_end.enter_async_context(spawned(_render, redis_url, namespace, size))
        while not (await pool.load()).workers_alive:  # noqa: ASYNC110 - it says so in Redis
            await asyncio.sleep(POLL_S)
        await _draw(pool, size, "warm-up", WARM_UP_PICTURES)
        await redis.config_resetstat()
        before, began = await _info(redis), time.perf_counter()
        await _draw(pool, size, "measured", pictures)
        after, seconds = await _info(redis), time.perf_counter() - began
    names = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
    cpu_s = sum(after[name] - before[name] for name in names)
    moved = sum(after[name] - before[name] for name in ("total_net_input_bytes", "total_net_output_bytes"))
    commands = {
        name.removeprefix("cmdstat_"): (stats["calls"] / pictures, stats["usec"] / 1000 / pictures)
        for name, stats in after.items()
        if name.startswith("cmdstat_")
    }
    return Cost(pictures / seconds, 1000 * cpu_s / pictures, moved / 1024 / pictures, commands)


async def _info(redis: Redis) -> dict[str, Any]:
    sections = [await redis.info(section) for section in ("cpu", "stats", "commandstats")]
    return {name: value for section in sections for name, value in section.items()}


async def _draw(pool: RedisPool, size: Size, name: str, pictures: int) -> None:
    """Have so many pictures drawn, some at a time."""
    states = torch.randn(size.states_shape).to(size.dtype)
    numbers = iter(range(pictures))

    async def ask() -> None:
        for number in numbers:
            job = RenderJob(
                id=f"{name}-{number}",
                states=states,
                negative_states=None,
                width=size.side,
                height=size.side,
                steps=STEPS,
                guidance_scale=3.5,
                scheduler="ddim",
                seed=number,
            )
            async for _ in pool.render(job):
                pass

    async with asyncio.TaskGroup() as asking:
        for _ in range(OPEN_JOBS):
            asking.create_task(ask())


def _render(url: str, namespace: str, size: Size) -> None:
    """The process of the renderer."""
    asyncio.run(_finish_jobs(url, namespace, size))


async def _finish_jobs(url: str, namespace: str, size: Size) -> None:
    """All that a worker says, about pictures that are there already."""
    pixels = np.random.default_rng(0).integers(0, 32, (size.side, size.side, 3), dtype=np.uint8)
    outcome = encode_outcome(Completed(RenderedImage(encode_image(pixels, "png"), "png", pixels)))
    worker_id, lease_s = "renderer", RedisSettings().lease_s
    held: set[str] = set()
    announcement = encode_worker(
        WorkerInfo(worker_id, TAKEN_TOGETHER, StepTimes(((1, 0.001),)), 0, 0, 0.0, "simulated", draining=False)
    )
    async with connect(url) as client, dedicated(client, block_s=WAIT_S) as blocking:
        consumer = Consumer(client, blocking, Keys(namespace, CHECKPOINT_ID), worker_id, lease_s=lease_s)

        async def renew() -> None:
            while True:
                await consumer.renew(list(held), announcement)
                await asyncio.sleep(1)

        async def finish(job: TakenJob) -> None:
            held.add(job.id)
            for number in range(1, PROGRESS_MESSAGES):
                step = number * STEPS // PROGRESS_MESSAGES
                await consumer.tell(job.server_id, encode_message(Message(job.id, Progress(step, STEPS))))
            await consumer.finish(job.id, outcome, encode_message(Message(job.id, Stored())))
            held.discard(job.id)

        renewing = asyncio.create_task(renew())
        try:
            while True:
                taken = await consumer.take(TAKEN_TOGETHER, reclaim=False) or await consumer.wait(WAIT_S)
                await asyncio.gather(*map(finish, taken))
        finally:
            await end([renewing])
