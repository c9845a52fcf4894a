"""The worker processes of a test."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.pool.faults import troubled_worker
from tests.pool.faults.forks import forks
from tests.pool.rendering import eventually
from tests.redis_server import HOST, free_port

MAX_BATCH = 4


class Brake:
    """Holds up all jobs when half of their steps are done, so that the middle of a batch lasts as long as wanted.

    Args:
        path: of a file that the workers look at.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self._file = path.open()

    def hold(self) -> None:
        """No job gets beyond its half from now on."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """All go on."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it for good."""
        self._file.close()


class SpawnedWorker:
    """A ``dreamserve worker`` in a process of its own.

    Args:
        process: has been started.
        port: of its health checks and metrics.
    """

    def __init__(self, process: BaseProcess, port: int) -> None:
        self._process = process
        self._url = f"http://{HOST}:{port}"

    async def ready(self) -> bool:
        """Whether it says that it takes jobs."""
        assert self._process.is_alive(), "the worker has died"
        try:
            return (await self._get("/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a counter or gauge."""
        families = text_string_to_metric_families((await self._get("/metrics")).text)
        samples = [sample for family in families for sample in family.samples]
        [value] = [sample.value for sample in samples if sample.name == name and sample.labels == labels]
        return value

    async def lets_go(self) -> None:
        """Wait until it holds no job."""

        async def holds_none() -> bool:
            return await self.metric("dreamserve_worker_jobs_held") == 0

        await eventually(holds_none)

    def kill(self) -> None:
        """``kill -9``."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop its clock: its connections stay, and nothing is done."""
        self._signal(signal.SIGSTOP)
        # A thread that still runs could be granted the brake's lock, and hold it in its sleep.
        while not self._stopped():
            os.sched_yield()

    def _stopped(self) -> bool:
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        # After the name of the program, which is in brackets and may hold anything.
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to leave."""
        self._signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """How it ended, once it has; a signal is negative."""
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode is not None
        return self._process.exitcode

    async def end(self) -> None:
        """Make sure that it is gone."""
        if self._process.is_alive():
            self.kill()
        await self.exit_code()

    async def _get(self, path: str) -> httpx.Response:
        # It takes longer to load the certificates for TLS, which is not spoken here, than to get the answer.
        async with httpx.AsyncClient(verify=False, timeout=3600) as client:  # noqa: S501
            return await client.get(self._url + path)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


class Fleet:
    """The workers of one test.

    Args:
        url: of their Redis.
        checkpoint: that they draw with.
        folder: for their logs.
        settings: of all of them, such as ``REDIS__LEASE_S``.
    """

    def __init__(self, url: str, checkpoint: Path, folder: Path, settings: Mapping[str, object]) -> None:
        self.brake = Brake(folder / "brake")
        self._url = url
        self._checkpoint = checkpoint
        self._folder = folder
        self._settings = settings
        self._workers: list[SpawnedWorker] = []

    def spawn(self, *, url: str | None = None, **settings: object) -> SpawnedWorker:
        """One more worker, which may die before it is ready.

        Args:
            url: of its Redis, if not that of the others.
            settings: of it alone.
        """
        port = free_port()
        arguments = ["--redis", url or self._url, "--model", str(self._checkpoint), "--port", str(port)]
        environment = {f"DREAMSERVE_{name}": str(value) for name, value in {**self._settings, **settings}.items()}
        log = self._folder / f"worker-{len(self._workers)}.log"
        process = forks.Process(target=troubled_worker.work, args=(arguments, environment, self.brake.path, log))
        process.start()
        self._workers.append(SpawnedWorker(process, port))
        return self._workers[-1]

    async def start(self, *, url: str | None = None, **settings: object) -> SpawnedWorker:
        """One more worker, which takes jobs; see :meth:`spawn`."""
        worker = self.spawn(url=url, **settings)
        await eventually(worker.ready)
        return worker

    async def close(self) -> None:
        """End all of them. What they logged is printed, which pytest shows for a test that failed."""
        self.brake.close()
        await asyncio.gather(*(worker.end() for worker in self._workers))
        for log in sorted(self._folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()}")
