"""The command as an operator starts it, without anything of the tests in its process."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from server.pool.redis.pool import RedisPool
from tests.pool.faults.callers import MakeCall, QuietRun, job_of
from tests.pool.faults.line import Line
from tests.pool.faults.servers import NAMESPACE
from tests.redis_server import RedisServer


async def test_a_worker_says_when_it_is_ready_draws_says_goodbye_and_ends_well(
    pool: RedisPool,
    own_redis_server: RedisServer,
    checkpoint: Path,
    line: Line,
    quiet: QuietRun,
    call: MakeCall,
) -> None:
    arguments = ["worker", "--redis", own_redis_server.url, "--model", str(checkpoint), "--port", "0"]
    settings = {"DREAMSERVE_REDIS__NAMESPACE": NAMESPACE, "OMP_NUM_THREADS": "1"}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", *arguments, env=os.environ | settings, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        assert (await worker.stdout.readline()).startswith(b"ready")
        await quiet.check(call(pool, job_of(1)))
        assert await line.workers() == 1
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0
        assert await line.workers() == 0
        await line.until_empty()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
