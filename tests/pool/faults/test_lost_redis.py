"""A Redis that crashes, forgets, fills up or cannot be reached: callers wait and get their pictures, or are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from server.pool.base import RenderError
from server.pool.redis.pool import RedisPool
from tests.cutting_proxy import CuttingProxy
from tests.pool.faults.callers import MakeCall, QuietRun, begun, job_of, three_begun
from tests.pool.faults.fleet import MAX_BATCH, Fleet
from tests.pool.faults.line import Line
from tests.pool.faults.servers import SHORT_LEASE_S, OpenPool
from tests.pool.rendering import eventually
from tests.redis_server import HOST, RedisServer

REDIS_ERRORS = "dreamserve_worker_redis_errors_total"


async def refuse(proxy: CuttingProxy) -> None:
    await proxy.refuse()


async def swallow(proxy: CuttingProxy) -> None:
    proxy.black_hole()


@pytest.fixture
async def way(own_redis_server: RedisServer) -> AsyncIterator[CuttingProxy]:
    """The way of one process to Redis, which can be cut."""
    async with CuttingProxy(own_redis_server.port) as proxy:
        yield proxy


def through(way: CuttingProxy) -> str:
    """URL of the Redis at the other end."""
    return f"redis://{HOST}:{way.port}/0"


async def test_a_redis_that_crashes_and_comes_back_with_its_data_costs_no_job(
    pool: RedisPool, fleet: Fleet, own_redis_server: RedisServer, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    worker = await fleet.start()
    # More than the worker can hold: some have not begun.
    calls = [call(pool, job_of(subject)) for subject in range(MAX_BATCH + 2)]
    await line.until_held(MAX_BATCH)
    await begun(*calls)
    own_redis_server.kill()

    async def noticed() -> bool:
        return await worker.metric(REDIS_ERRORS) > 0

    await eventually(noticed)
    await asyncio.to_thread(own_redis_server.start)
    fleet.brake.release()
    await quiet.check(*calls)
    await line.until_empty()


@pytest.mark.parametrize("jobs", [MAX_BATCH - 1, MAX_BATCH + 2])
async def test_jobs_that_redis_has_forgotten_are_put_in_line_again(
    open_pool: OpenPool,
    fleet: Fleet,
    own_redis_server: RedisServer,
    line: Line,
    quiet: QuietRun,
    call: MakeCall,
    jobs: int,
) -> None:
    # The server notices before the worker does, most of the time.
    pool = await open_pool(lease_s=0.6)
    fleet.brake.hold()
    await fleet.start(REDIS__LEASE_S=60)
    calls = [call(pool, job_of(subject)) for subject in range(jobs)]
    await line.until_held(min(jobs, MAX_BATCH))
    await begun(*calls)
    await asyncio.to_thread(own_redis_server.restart, keep_data=False)
    fleet.brake.release()
    await quiet.check(*calls)
    assert await line.dead_letters() == []
    await line.until_empty()


async def test_while_redis_stays_away_callers_are_told_and_afterwards_all_works_again(
    open_pool: OpenPool, fleet: Fleet, own_redis_server: RedisServer, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    pool = await open_pool(patience_s=0.5)
    fleet.brake.hold()
    worker = await fleet.start()
    running = [call(pool, job_of(subject)) for subject in range(2)]
    await line.until_held(2)
    own_redis_server.kill()
    for each in [*running, call(pool, job_of(2))]:
        outcome = await each.outcome()
        assert isinstance(outcome, RenderError)
        assert outcome.code == "unavailable"
    assert (await pool.load()).workers_alive == 0

    await asyncio.to_thread(own_redis_server.restart, keep_data=False)
    fleet.brake.release()
    await worker.lets_go()
    await quiet.check(call(pool, job_of(3)))
    await line.until_empty()


async def test_a_moment_without_connections_costs_nobody_anything(
    open_pool: OpenPool, fleet: Fleet, way: CuttingProxy, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    pool = await open_pool(url=through(way))
    fleet.brake.hold()
    await fleet.start(url=through(way))
    calls = await three_begun(pool, call, line)
    await way.cut()
    fleet.brake.release()
    await way.cut()
    await quiet.check(*calls)
    await line.until_empty()


@pytest.mark.parametrize("sever", [refuse, swallow])
async def test_a_server_cut_off_for_longer_than_its_lease_still_gets_its_pictures(
    open_pool: OpenPool,
    fleet: Fleet,
    way: CuttingProxy,
    line: Line,
    quiet: QuietRun,
    call: MakeCall,
    sever: Callable[[CuttingProxy], Awaitable[None]],
) -> None:
    pool = await open_pool(url=through(way), lease_s=SHORT_LEASE_S)
    fleet.brake.hold()
    worker = await fleet.start()
    calls = await three_begun(pool, call, line)
    await sever(way)

    async def all_expired() -> bool:
        return not await line.open_jobs()

    await eventually(all_expired)
    await worker.lets_go()
    await way.heal()
    fleet.brake.release()
    await quiet.check(*calls)
    await line.until_empty()


@pytest.mark.parametrize("sever", [refuse, swallow])
async def test_the_jobs_of_a_worker_that_is_cut_off_are_drawn_by_another_and_its_own_pictures_come_too_late(
    pool: RedisPool,
    fleet: Fleet,
    way: CuttingProxy,
    line: Line,
    quiet: QuietRun,
    call: MakeCall,
    sever: Callable[[CuttingProxy], Awaitable[None]],
) -> None:
    fleet.brake.hold()
    lonely = await fleet.start(url=through(way))
    calls = await three_begun(pool, call, line)
    await sever(way)
    fleet.brake.release()

    async def drawn() -> bool:
        return await lonely.metric("dreamserve_diffusion_jobs_total", outcome="completed") == 3

    await eventually(drawn)
    other = await fleet.start()
    await quiet.check(*calls)
    assert await other.metric("dreamserve_worker_jobs_ended_total", outcome="completed") == 3

    await way.heal()
    await lonely.lets_go()
    assert await lonely.metric("dreamserve_worker_jobs_ended_total", outcome="lost") == 3
    other.kill()
    await quiet.check(call(pool, job_of(3)))
    await line.until_empty()


async def test_jobs_wait_for_room_in_a_full_redis(
    pool: RedisPool, open_pool: OpenPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    worker = await fleet.start()
    running = await three_begun(pool, call, line)
    await line.fill()
    fleet.brake.release()
    errors = await worker.metric(REDIS_ERRORS)

    async def cannot_store() -> bool:
        return await worker.metric(REDIS_ERRORS) > errors

    await eventually(cannot_store)
    late = call(pool, job_of(3))
    impatient = call(await open_pool(patience_s=0.2), job_of(4))
    outcome = await impatient.outcome()
    assert isinstance(outcome, RenderError)
    assert outcome.code == "unavailable"
    assert not any(each.ended for each in [*running, late])

    await line.make_room()
    for each in [*running, late]:
        await quiet.check(each)
    await line.until_empty()


async def test_what_could_not_be_stored_in_a_full_redis_is_drawn_again_however_often(
    pool: RedisPool, fleet: Fleet, line: Line, quiet: QuietRun, call: MakeCall
) -> None:
    fleet.brake.hold()
    worker = await fleet.start(REDIS__PATIENCE_S=0.1, WORKER__MAX_TRIES=2)
    calls = [call(pool, job_of(subject)) for subject in range(3)]
    await line.until_held(3)
    await line.fill()
    fleet.brake.release()

    async def handed_back() -> bool:
        return await worker.metric("dreamserve_worker_jobs_ended_total", outcome="handed_back") >= 9

    await eventually(handed_back)
    await line.make_room()
    await quiet.check(*calls)
    await line.until_empty()


async def test_a_redis_that_was_full_before_the_first_job_makes_callers_wait_no_longer_than_their_patience(
    open_pool: OpenPool, line: Line, call: MakeCall
) -> None:
    await line.fill()
    outcome = await call(await open_pool(patience_s=0.2), job_of(1)).outcome()
    assert isinstance(outcome, RenderError)
    assert outcome.code == "unavailable"
    await line.make_room()
    await line.until_empty()
