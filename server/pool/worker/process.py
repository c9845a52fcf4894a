"""The process of a worker: loads what draws, measures it, joins the pool, and leaves it in good order."""

import asyncio
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from server.observe.diffusion import exported
from server.observe.probes import ProbeServer, probes
from server.pool.connection import connect, dedicated
from server.pool.drawing import Drawing, load_drawing
from server.pool.queue.consumer import Consumer
from server.pool.queue.keys import Keys
from server.pool.worker.worker import WAIT_S, Worker
from server.settings import Settings


class WorkerProcess:
    """Runs one worker from the first health check to the goodbye.

    Args:
        settings: of the process; ``settings.redis.url`` is set.
        listener: where health checks and metrics are asked for.
        on_ready: called once, when jobs can be taken.
    """

    def __init__(self, settings: Settings, listener: socket.socket, on_ready: Callable[[Drawing], None]) -> None:
        self._settings = settings
        self._listener = listener
        self._on_ready = on_ready
        self._worker: Worker | None = None

    async def run(self, *, calibrate: bool = False) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            WorkerError: the engine died.
            OSError: the checkpoint is incomplete.
            ValueError: a file of it is broken, or the Redis URL is.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        async with self._probes():
            drawing = await asyncio.to_thread(load_drawing, self._settings, calibrate=calibrate)
            if stop.is_set():
                return
            self._on_ready(drawing)
            await self._work(drawing, stop)

    async def _work(self, drawing: Drawing, stop: asyncio.Event) -> None:
        redis, diffusion = self._settings.redis, self._settings.diffusion
        client = connect(redis.url.get_secret_value() if redis.url else "", name="dreamserve-worker")
        blocking = dedicated(client, block_s=WAIT_S)
        worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        keys = Keys(redis.namespace, drawing.checkpoint_id)
        self._worker = Worker(
            worker_id,
            Consumer(client, blocking, keys, worker_id, lease_s=redis.lease_s),
            drawing.decoder,
            drawing.limits,
            drawing.step_times,
            max_batch=drawing.max_batch,
            max_decode_batch=diffusion.max_decode_batch,
            preview_share=diffusion.preview_share,
            lease_s=redis.lease_s,
            patience_s=redis.patience_s,
            max_tries=self._settings.worker.max_tries,
        )
        try:
            with exported(self._worker.stats):
                await self._worker.run(stop, self._settings.worker.drain_s)
        finally:
            await blocking.aclose()
            await client.aclose()

    @asynccontextmanager
    async def _probes(self) -> AsyncIterator[None]:
        server = ProbeServer(probes(self._not_started, self._unhealthy, self._not_ready))
        serving = asyncio.create_task(server.serve([self._listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving

    def _not_started(self) -> str | None:
        return "the checkpoint is being loaded" if self._worker is None else None

    def _unhealthy(self) -> str | None:
        return None if self._worker is None or self._worker.alive else "the diffusion engine is not at work"

    def _not_ready(self) -> str | None:
        if self._worker is None:
            return self._not_started()
        if self._worker.draining:
            return "the worker is draining"
        now = asyncio.get_running_loop().time()
        if self._worker.renewed_at is None or now - self._worker.renewed_at > self._settings.redis.lease_s:
            return "Redis cannot be reached"
        return None
