"""Servers that die with open jobs: the workers drop these by themselves."""

import asyncio
from pathlib import Path

from server.pool.redis.pool import RedisPool
from tests.pool.faults.callers import MakeCall, QuietRun, job_of
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.faults.servers import doomed_server
from tests.pool.rendering import eventually
from tests.redis_server import RedisServer


async def test_the_jobs_of_a_killed_server_are_dropped_and_those_of_another_are_not(
    pool: RedisPool,
    own_redis_server: RedisServer,
    checkpoint: Path,
    fleet: Fleet,
    line: Line,
    quiet: QuietRun,
    call: MakeCall,
) -> None:
    fleet.brake.hold()
    worker = await fleet.start()
    server = doomed_server(own_redis_server.url, checkpoint, subjects=[1, 2])
    server.start()
    await line.until_held(2)
    # More than the worker can hold: some have not begun.
    others = [call(pool, job_of(subject)) for subject in range(4)]
    await line.until_held(4)
    server.kill()
    await asyncio.to_thread(server.join)

    async def dropped() -> bool:
        # It can hold no more than four.
        return await worker.metric("dreamserve_worker_jobs_taken_total") >= 6

    async def those_of_the_other_are_left() -> bool:
        return set(await line.open_jobs()) == {each.job.id for each in others}

    await eventually(dropped)
    await eventually(those_of_the_other_are_left)
    fleet.brake.release()
    await quiet.check(*others)
    await line.until_empty()
