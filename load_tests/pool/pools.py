"""Pools to measure: one in this process, and one whose worker is a process of its own behind Redis."""

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import torch
from pydantic import SecretStr

from load_tests.pool.model import ModelSpec, random_decoder
from load_tests.pool.traffic import MAX_BATCH
from load_tests.pool.unet_calls import UNetCalls
from models.diffusion.calibration import measure
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import DecoderDescription
from models.diffusion.previews import PREVIEW_SHARE
from server.pool.connection import connect, dedicated
from server.pool.local import LocalPool
from server.pool.queue.consumer import Consumer
from server.pool.queue.keys import Keys
from server.pool.redis.pool import RedisPool
from server.pool.worker.worker import WAIT_S, Worker
from server.settings import RedisSettings

CHECKPOINT_ID = "load-test"
WORKER_ID = "load-test-worker"
MAX_DECODE_BATCH = 4
POLL_S = 0.1


@asynccontextmanager
async def local_pool(
    decoder: DiffusionDecoder, spec: ModelSpec, *, preview_share: float = PREVIEW_SHARE
) -> AsyncIterator[LocalPool]:
    """The pool of a server without Redis."""
    pool = LocalPool(decoder, max_batch=MAX_BATCH, max_decode_batch=MAX_DECODE_BATCH, preview_share=preview_share)
    pool.start(spec.states())
    try:
        yield pool
    finally:
        await pool.close(drain_s=0)


@asynccontextmanager
async def redis_pool(
    url: str, namespace: str, decoder: DiffusionDecoder, spec: ModelSpec, calls: Path
) -> AsyncIterator[RedisPool]:
    """The pool of a server with Redis, and one worker that is ready.

    Args:
        url: of the Redis.
        namespace: that nothing else uses.
        decoder: like the worker's; draws nothing.
        spec: of both.
        calls: where the worker writes down its UNet calls.
    """
    pool = unattended_redis_pool(url, namespace, decoder.description, spec)
    arguments = (url, namespace, spec, str(decoder.device), torch.get_num_threads(), calls)
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=arguments, daemon=True)
    worker.start()
    try:
        await pool.start(spec.states())
        while not (await pool.load()).workers_alive:
            if not worker.is_alive():
                raise RuntimeError("the worker has not started")
            await asyncio.sleep(POLL_S)
        yield pool
    finally:
        await pool.close()
        worker.terminate()
        await asyncio.to_thread(worker.join)


def unattended_redis_pool(url: str, namespace: str, description: DecoderDescription, spec: ModelSpec) -> RedisPool:
    """The pool of a server with Redis, not started, and no worker."""
    settings = RedisSettings(url=SecretStr(url), namespace=namespace)
    return RedisPool(settings, description, CHECKPOINT_ID, spec.limits(description))


def _work(url: str, namespace: str, spec: ModelSpec, device: str, threads: int, calls: Path) -> None:
    """The process of the worker."""
    torch.set_num_threads(threads)
    decoder = random_decoder(spec, torch.device(device), UNetCalls(calls))
    asyncio.run(work_until_terminated(url, namespace, decoder, spec))


async def work_until_terminated(
    url: str, namespace: str, decoder: DiffusionDecoder, spec: ModelSpec, worker_id: str = WORKER_ID
) -> None:
    """A worker in this process, until it is told to stop."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    settings = RedisSettings(url=SecretStr(url), namespace=namespace)
    client = connect(url)
    blocking = dedicated(client, block_s=WAIT_S)
    worker = Worker(
        worker_id,
        Consumer(client, blocking, Keys(namespace, CHECKPOINT_ID), worker_id, lease_s=settings.lease_s),
        decoder,
        spec.limits(decoder.description),
        measure(decoder, spec.states_shape, MAX_BATCH, repeats=1),
        max_batch=MAX_BATCH,
        max_decode_batch=MAX_DECODE_BATCH,
        lease_s=settings.lease_s,
        patience_s=settings.patience_s,
        max_tries=3,
    )
    try:
        await worker.run(stop, drain_s=0)
    finally:
        await blocking.aclose()
        await client.aclose()
