"""Workers that die, freeze, leave or meet a job that kills them: another one draws what they held."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.pool.base import RenderError
from server.pool.redis.pool import RedisPool
from server.tasks import end
from tests.pool.faults.callers import STEPS, MakeCall, QuietRun, begun, job_of, three_begun
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.faults.servers import SHORT_LEASE_S
from tests.pool.faults.troubled_worker import KILLS_THE_ENGINE, KILLS_THE_PROCESS
from tests.pool.rendering import eventually

TAKEN_OVER = "dreamserve_worker_jobs_taken_over_total"
LEASES_LOST = "dreamserve_worker_leases_lost_total"


@asynccontextmanager
async def always_one_worker(fleet: Fleet, **settings: object) -> AsyncIterator[list[int]]:
    """Starts a worker whenever the last one has died. Gives their exit codes."""
    codes: list[int] = []

    async def start_again_and_again() -> None:
        while True:
            codes.append(await fleet.spawn(url=None, **settings).exit_code())

    starting = asyncio.create_task(start_again_and_again())
    try:
        yield codes
    finally:
        await end([starting])


async def test_the_jobs_of_a_killed_worker_are_drawn_by_another(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    worker = await fleet.start()
    calls = await three_begun(pool, call, line)
    worker.kill()
    fleet.brake.release()
    await fleet.start()
    await quiet.check(*calls)
    await line.until_empty()


async def test_a_worker_that_slept_past_its_lease_lets_its_jobs_go_and_works_on(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    sleeper = await fleet.start()
    calls = await three_begun(pool, call, line)
    sleeper.freeze()
    fleet.brake.release()
    other = await fleet.start()
    await quiet.check(*calls)

    fleet.brake.hold()
    sleeper.thaw()

    async def all_given_up() -> bool:
        return await sleeper.metric(LEASES_LOST) == 3

    await eventually(all_given_up)
    await sleeper.lets_go()
    fleet.brake.release()
    other.kill()
    await quiet.check(call(pool, job_of(3)))
    await line.until_empty()


async def test_what_a_sleeper_finishes_too_late_is_seen_by_nobody(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    sleeper = await fleet.start()
    calls = await three_begun(pool, call, line)
    sleeper.freeze()
    fleet.brake.release()
    await fleet.start()
    await quiet.check(*calls)

    sleeper.thaw()
    await sleeper.lets_go()
    assert await sleeper.metric("dreamserve_worker_jobs_ended_total", outcome="lost") == 3
    assert await sleeper.metric("dreamserve_worker_jobs_ended_total", outcome="completed") == 0
    await line.until_empty()


async def test_a_worker_that_slept_past_its_lease_draws_on_what_nobody_took_from_it(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    sleeper = await fleet.start()
    calls = await three_begun(pool, call, line)
    sleeper.freeze()
    await line.until_all_leases_are_out(SHORT_LEASE_S)
    sleeper.thaw()
    fleet.brake.release()
    await quiet.check(*calls)
    assert await line.dead_letters() == []
    await line.until_empty()


async def test_a_worker_that_is_asked_to_leave_finishes_what_it_holds_and_takes_no_more(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    leaver = await fleet.start(WORKER__DRAIN_S=3600)
    held = [call(pool, job_of(subject)) for subject in range(3)]
    await line.until_held(3)
    leaver.terminate()

    async def draining() -> bool:
        return not await leaver.ready()

    await eventually(draining)
    late = [call(pool, job_of(subject)) for subject in range(3)]
    other = await fleet.start()
    fleet.brake.release()
    await quiet.check(*held, *late)
    assert await leaver.exit_code() == 0
    # One may have gone to the read that was already waiting for a job.
    assert await other.metric("dreamserve_worker_jobs_ended_total", outcome="completed") >= 2
    await line.until_empty()


async def test_a_worker_without_time_to_finish_hands_its_jobs_back_as_if_never_tried(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    leaver = await fleet.start(WORKER__DRAIN_S=0)
    calls = await three_begun(pool, call, line)
    leaver.terminate()

    async def handed_back() -> bool:
        return await leaver.metric("dreamserve_worker_jobs_ended_total", outcome="handed_back") == 3

    await eventually(handed_back)
    fleet.brake.release()
    assert await leaver.exit_code() == 0
    assert [await line.tries(each.job.id) for each in calls] == [0, 0, 0]
    other = await fleet.start()
    await quiet.check(*calls)
    assert await other.metric(TAKEN_OVER) == 0
    await line.until_empty()


async def test_a_worker_whose_engine_died_hands_its_jobs_back_and_says_so_by_its_exit_code(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    worker = await fleet.start()
    poison = call(pool, job_of(0, seed=KILLS_THE_ENGINE))
    others = [call(pool, job_of(subject, steps=2 * STEPS)) for subject in range(2)]
    await line.until_held(3)
    await begun(poison, *others)
    fleet.brake.release()
    assert await worker.exit_code() == 1
    assert await line.held() == 0
    assert [await line.tries(each.job.id) for each in [poison, *others]] == [1, 1, 1]

    # Two tries may be made with each, so the next is the last one.
    last = await fleet.start(WORKER__MAX_TRIES=2)
    assert await last.exit_code() == 1
    await fleet.start(WORKER__MAX_TRIES=2)
    await quiet.check(*others)
    outcome = await poison.outcome()
    assert isinstance(outcome, RenderError)
    assert outcome.code == "worker_lost"
    assert await line.dead_letters() == [poison.job.id]
    await line.until_empty()


async def test_a_job_that_kills_its_workers_is_given_up_and_takes_no_other_job_with_it(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    async with always_one_worker(fleet, WORKER__MAX_TRIES=3) as deaths:
        poison = call(pool, job_of(0, seed=KILLS_THE_PROCESS))
        innocents = [call(pool, job_of(subject, steps=2 * STEPS)) for subject in range(3)]
        await line.until_held(4)
        await begun(poison, *innocents)
        fleet.brake.release()
        await quiet.check(*innocents)
        outcome = await poison.outcome()
    assert isinstance(outcome, RenderError)
    assert outcome.code == "worker_lost"
    assert 1 <= len(deaths) <= 3
    assert set(deaths) == {-signal.SIGKILL}
    assert await line.dead_letters() == [poison.job.id]
    await line.until_empty()


async def test_a_last_try_that_has_to_wait_for_its_worker_to_be_free_is_not_used_up_when_the_worker_dies(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    doomed = await fleet.start(WORKER__MAX_TRIES=2, DIFFUSION__MAX_BATCH=2)
    poison, other = (call(pool, job) for job in [job_of(0, seed=KILLS_THE_PROCESS), job_of(1)])
    await line.until_held(2)
    await begun(poison, other)
    # The first try, by a worker that is never heard of again.
    innocent = call(pool, job_of(2))
    await line.until_taken_by_a_ghost(innocent.job.id)
    await other.leave()

    async def waits_for_its_last_try() -> bool:
        return await doomed.metric(TAKEN_OVER) == 1

    await eventually(waits_for_its_last_try)
    fleet.brake.release()
    assert await doomed.exit_code() == -signal.SIGKILL
    # It is alone with the poison's last try, too.
    await fleet.spawn(WORKER__MAX_TRIES=2).exit_code()
    await fleet.start(WORKER__MAX_TRIES=2)
    await quiet.check(innocent)
    assert isinstance(await poison.outcome(), RenderError)
    assert await line.dead_letters() == [poison.job.id]
    await line.until_empty()
