"""Many jobs while workers die all the time."""

import asyncio
from functools import partial

from models.diffusion.job import RenderJob
from tests.pool.faults.callers import STEPS, Call, MakeCall, QuietRun, job_of
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.faults.servers import OpenPool
from tests.pool.rendering import eventually

JOBS = 200
WORKERS = 3
SUBJECTS = 20
ENDS_BETWEEN_DEATHS = 25


async def test_every_job_ends_once_with_its_picture_while_worker_after_worker_is_killed(
    open_pool: OpenPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    servers = [await open_pool(), await open_pool()]
    calls = [call(servers[number % 2], mixed(number)) for number in range(JOBS)]
    workers = list(await asyncio.gather(*(fleet.start() for _ in range(WORKERS))))
    for ends in range(ENDS_BETWEEN_DEATHS, JOBS, ENDS_BETWEEN_DEATHS):
        await eventually(partial(have_ended, calls, ends))
        workers.pop(0).kill()
        workers.append(await fleet.start())
    await quiet.check(*calls)
    await line.until_empty()


def mixed(number: int) -> RenderJob:
    """One of many jobs of few subjects, which differ in steps, scheduler, guidance and priority."""
    subject = number % SUBJECTS
    return job_of(subject, steps=STEPS - 4 + 3 * (subject % 5), priority="high" if number % 3 == 0 else "normal")


def have_ended(calls: list[Call], ends: int) -> bool:
    """Whether so many have."""
    return sum(call.ended for call in calls) >= ends
