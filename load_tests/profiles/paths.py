"""The two hottest paths under load: what a server process does for text, and a worker for pictures."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import torch
from pydantic import SecretStr

from load_tests.fan_out.readers import readers_of
from load_tests.fan_out.serving import serving
from load_tests.fan_out.ticks import load_tokenizer, words
from load_tests.pool.traffic import STEPS
from load_tests.redis_server import redis_server
from models.diffusion.description import DecoderDescription
from models.diffusion.fingerprint import checkpoint_id
from models.diffusion.job import RenderJob
from server.demo import free_port, stop, wait_until_ready
from server.pool.drawing import job_limits
from server.pool.redis.pool import RedisPool
from server.settings import DEFAULT_CHECKPOINT, LimitsSettings, RedisSettings
from server.tasks import end

READERS = 200
OPEN_JOBS = 16
WORKER_THREADS = 1
GUIDANCE_SCALE = 3.5
POLL_S = 0.1


@asynccontextmanager
async def text_under_load(logs: Path) -> AsyncIterator[int]:
    """A server process with readers. Yields its process id."""
    with serving("ours", logs / "server.log") as (port, process):
        async with readers_of(port, list(words(load_tokenizer()))) as readers:
            await readers.grow(READERS)
            yield process.pid


@asynccontextmanager
async def pictures_under_load(logs: Path) -> AsyncIterator[int]:
    """A worker of the embedded checkpoint with more jobs than it can take. Yields its process id."""
    folder = DEFAULT_CHECKPOINT / "diffusion"
    description = DecoderDescription.from_pretrained(folder)
    limits = job_limits(DEFAULT_CHECKPOINT, description, LimitsSettings())
    with redis_server() as url, _worker(url, logs / "worker.log") as pid:
        pool = RedisPool(RedisSettings(url=SecretStr(url)), description, checkpoint_id(folder), limits)
        await pool.start(torch.zeros(limits.states_shape))
        numbers, steps = itertools.count(), itertools.cycle(STEPS)

        async def ask() -> None:
            while True:
                number = next(numbers)
                job = RenderJob(
                    id=f"picture-{number}",
                    states=torch.randn(limits.states_shape),
                    negative_states=None,
                    width=description.image_size,
                    height=description.image_size,
                    steps=next(steps),
                    guidance_scale=GUIDANCE_SCALE,
                    scheduler="ddim",
                    seed=number,
                )
                async for _ in pool.render(job):
                    pass

        asking = [asyncio.create_task(ask()) for _ in range(OPEN_JOBS)]
        try:
            while not (await pool.load()).running:  # noqa: ASYNC110 - the worker says so in Redis
                await asyncio.sleep(POLL_S)
            yield pid
        finally:
            await end(asking)
            await pool.close()


@contextmanager
def _worker(redis_url: str, log: Path) -> Iterator[int]:
    """``dreamserve worker`` as a process, from ready to stopped. Yields its process id."""
    port = free_port()
    variables = {
        "DREAMSERVE_REDIS__URL": redis_url,
        "DREAMSERVE_WORKER__PORT": str(port),
        "OMP_NUM_THREADS": str(WORKER_THREADS),
    }
    command = [sys.executable, "-m", "server.cli", "worker"]
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603
            command, env={**os.environ, **variables}, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process, log)
            yield process.pid
        finally:
            stop(process)
