"""A server's pool over Redis: what it says of the line, what it keeps open, and what it hears."""

import pytest

from models.diffusion.step_times import StepTimes
from server.observe.metrics import POOL_RESUBMITTED, POOL_SUBMISSIONS_FAILED
from server.pool.base import Completed, PoolDeadError, PoolLoad, Queued
from server.pool.queue.producer import Producer
from server.pool.redis.pool import RedisPool
from server.pool.wire import WorkerInfo, encode_worker
from tests.pool.deployment import MAX_BATCH, Deployment
from tests.pool.rendering import Rendering, begun, eventually, failure, picture, rendered, same_picture
from tests.redis_server import HOST, free_port
from tests.tiny_diffusion import make_render_job, random_decoder

STEP_TIMES = StepTimes(((1, 0.25), (2, 0.5)))  # 4 job steps a second, alone or in pairs


async def announce(deployment: Deployment, worker_id: str, *, running: int = 0, steps_ahead: int = 0) -> None:
    """Have a worker of ``MAX_BATCH`` places announce itself that takes no jobs."""
    info = WorkerInfo(worker_id, MAX_BATCH, STEP_TIMES, running, steps_ahead, 1.0, "cpu", draining=False)
    await deployment.consumer(worker_id).renew([], encode_worker(info))


async def queued(rendering: Rendering) -> Queued:
    first = await anext(rendering)
    assert isinstance(first, Queued)
    return first


async def test_the_load_counts_the_jobs_and_workers_of_all_servers(deployment: Deployment) -> None:
    first, second = await deployment.server(), await deployment.server()
    workers = [await deployment.worker(), await deployment.worker()]
    idle = await first.load()
    assert idle == await second.load() == PoolLoad(0, 0, 0.0, 2, idle.steps_per_s)
    assert idle.steps_per_s is not None
    assert idle.steps_per_s > 0
    jobs = [make_render_job(str(n), steps=900) for n in range(6)]
    async with begun(first, *jobs[:3]), begun(second, *jobs[3:]):
        await eventually(lambda: sum(worker.worker.stats().running for worker in workers) == 2 * MAX_BATCH)
        for pool in (first, second):
            await eventually(lambda pool=pool: _is_busy(pool, waiting=2, running=4))
    await eventually(lambda: _is_busy(first, waiting=0, running=0))


async def _is_busy(pool: RedisPool, waiting: int, running: int) -> bool:
    load = await pool.load()
    return (load.queue_depth, load.running) == (waiting, running)


async def test_work_ahead_is_counted_at_the_speed_that_the_workers_announce(deployment: Deployment) -> None:
    await announce(deployment, "busy", running=2, steps_ahead=100)
    await announce(deployment, "idle")
    waiting, watching = await deployment.server(), await deployment.server()
    big = {"width": 64, "height": 64}
    async with begun(waiting, make_render_job("a", steps=40), make_render_job("b", steps=5, **big)):
        assert await watching.load() == PoolLoad(
            queue_depth=2, running=0, seconds_ahead=(100 + 40 + 4 * 5) / 8, workers_alive=2, steps_per_s=8.0
        )


async def test_the_expected_time_is_that_of_waiting_and_of_the_batch_that_the_job_will_be_in(
    deployment: Deployment,
) -> None:
    await announce(deployment, "worker", running=1, steps_ahead=30)
    server = await deployment.server()
    steps = [30, 20, 20, 20]
    renderings = [server.render(make_render_job(str(n), steps=count)) for n, count in enumerate(steps)]
    # Of the jobs that came since the census only their number is known; they are taken to be as long as the others.
    assert [await queued(rendering) for rendering in renderings] == [
        Queued(0, 30 * 0.25 + 1.0),
        Queued(0, 20 * 0.5 + 1.0),
        Queued(1, 20 * 0.5 + 1.0 + 1 * 30 / 4),
        Queued(2, 20 * 0.5 + 1.0 + 2 * 30 / 4),
    ]
    for rendering in renderings:
        await rendering.aclose()


async def test_without_workers_the_time_is_unknown(deployment: Deployment) -> None:
    pool = await deployment.server()
    async with begun(pool, make_render_job("a")):
        rendering = pool.render(make_render_job("b"))
        assert await queued(rendering) == Queued(1, None)
        await rendering.aclose()


async def test_workers_of_other_weights_or_another_namespace_take_no_part(deployment: Deployment) -> None:
    pool = await deployment.server()
    async with (
        Deployment(deployment.url, deployment.namespace, random_decoder(), "f" * 16) as other_weights,
        Deployment(deployment.url, f"{deployment.namespace}-2", random_decoder()) as other_namespace,
        begun(pool, make_render_job("a")) as [rendering],
    ):
        strangers = [await other_weights.worker(), await other_namespace.worker()]
        assert (await pool.load()).workers_alive == 0
        await deployment.worker()
        assert isinstance([update async for update in rendering][-1], Completed)
        assert [stranger.worker.stats().steps for stranger in strangers] == [0, 0]


async def test_a_job_of_high_priority_goes_before_the_normal_ones_of_other_servers(deployment: Deployment) -> None:
    patient, urgent = await deployment.server(), await deployment.server()
    async with (
        begun(patient, *(make_render_job(f"normal-{n}") for n in range(3))),
        begun(urgent, make_render_job("urgent", priority="high")),
    ):
        assert [job.id for job in await deployment.consumer("worker").take(2, reclaim=False)] == ["urgent", "normal-0"]


async def test_a_cancelled_job_that_waits_is_gone_from_the_line(deployment: Deployment) -> None:
    pool = await deployment.server()
    async with begun(pool, make_render_job("a"), make_render_job("b")) as [first, _]:
        await pool.cancel("a")
        assert await failure(first) == "cancelled"
        await eventually(lambda: _waits_alone(deployment, "b"))
    await eventually(deployment.is_clean)


async def _waits_alone(deployment: Deployment, job_id: str) -> bool:
    return await deployment.names("job:") == [f"job:{job_id}"] and await deployment.line() == 1


async def test_a_cancelled_job_whose_reader_is_busy_elsewhere_is_not_submitted_again(deployment: Deployment) -> None:
    pool = await deployment.server(lease_s=0.5)
    async with begun(pool, make_render_job("a"), make_render_job("b")) as [first, _]:
        await pool.cancel("a")
        await eventually(lambda: _waits_alone(deployment, "b"))
        for _ in range(2):
            await _is_kept_once_more(deployment, "b")
            assert await _waits_alone(deployment, "b")
        assert await failure(first) == "cancelled"


async def _is_kept_once_more(deployment: Deployment, job_id: str) -> None:
    key = deployment.keys.job(job_id)
    await deployment.client.pexpire(key, 60_000)

    async def is_renewed() -> bool:
        return await deployment.client.pttl(key) <= 500

    await eventually(is_renewed)


async def test_a_job_without_a_worker_ends_at_its_deadline_and_nothing_remains(deployment: Deployment) -> None:
    pool = await deployment.server()
    assert await failure(pool.render(make_render_job("a", timeout_s=0.05))) == "timeout"
    await eventually(deployment.is_clean)
    assert await deployment.names("job") == ["jobs:normal"]


async def test_an_id_that_another_server_uses_is_refused_and_the_other_job_goes_on(deployment: Deployment) -> None:
    first, second = await deployment.server(), await deployment.server()
    async with begun(first, make_render_job("a")) as [rendering]:
        assert await failure(second.render(make_render_job("a", seed=2))) == "invalid_job"
        await deployment.worker()
        [*_, last] = [update async for update in rendering]
    assert isinstance(last, Completed)
    assert same_picture(last.image, await picture(first, make_render_job("a")))


async def test_an_end_of_which_the_message_was_lost_is_found(deployment: Deployment) -> None:
    pool = await deployment.server(lease_s=0.5)
    worker = deployment.consumer("worker")
    async with begun(pool, make_render_job("a")) as [rendering]:
        [taken] = await worker.take(1, reclaim=False)
        await worker.finish("a", b"", b"a message that nobody understands")
        assert await failure(rendering) == "render_failed"
        assert taken.id == "a"


async def test_a_job_that_redis_lost_is_submitted_again(deployment: Deployment) -> None:
    before = POOL_RESUBMITTED._value.get()
    pool = await deployment.server(lease_s=0.5)
    async with begun(pool, make_render_job("a")) as [rendering]:
        await deployment.client.delete(deployment.keys.job("a"), deployment.keys.jobs("normal"))
        await deployment.worker()
        assert isinstance([update async for update in rendering][-1], Completed)
    assert POOL_RESUBMITTED._value.get() > before


async def test_the_stream_of_replies_is_trimmed_and_goes_with_its_server(deployment: Deployment) -> None:
    await deployment.worker()
    pool = await deployment.server(lease_s=0.5)
    await rendered(pool, make_render_job("a", steps=20, previews=4))
    [replies] = await deployment.names("replies:")

    async def is_trimmed() -> bool:
        return await deployment.client.xlen(deployment.keys.prefix + replies) <= 1

    await eventually(is_trimmed)
    await pool.close()
    assert await deployment.names("replies:") == []


async def test_a_pool_that_was_not_started_says_so(deployment: Deployment) -> None:
    pool = deployment.unstarted_server()
    assert (await pool.load()).workers_alive == 0
    assert await failure(pool.render(make_render_job("a"))) == "unavailable"


async def test_a_pool_of_which_a_part_fails_says_that_it_is_dead(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def is_dead() -> bool:
        try:
            await pool.health()
        except PoolDeadError:
            return True
        return False

    pool = await deployment.server(lease_s=0.1)
    await pool.health()
    monkeypatch.setattr(Producer, "keep", broken)
    await eventually(is_dead)


async def test_where_redis_is_not_no_workers_are_alive_and_pictures_are_unavailable(deployment: Deployment) -> None:
    pool = await deployment.server(f"redis://{HOST}:{free_port()}", patience_s=0)
    assert await pool.load() == PoolLoad(0, 0, 0.0, 0, takes_jobs=False)
    assert await failure(pool.render(make_render_job("a"))) == "unavailable"
    await pool.health()


async def test_a_redis_that_evicts_what_jobs_refer_to_is_asked_now_and_then_and_given_up_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = []

    async def evicted_at_once(producer: Producer, digest: str, data: bytes) -> None:
        shared.append(digest)

    monkeypatch.setattr(Producer, "share_states", evicted_at_once)
    before = POOL_SUBMISSIONS_FAILED._value.get()
    pool = await deployment.server(patience_s=0.3)
    assert await failure(pool.render(make_render_job("a"))) == "unavailable"
    assert 1 < len(shared) <= 4
    assert POOL_SUBMISSIONS_FAILED._value.get() == before + len(shared) - 1, "those that were tried again"
    await pool.health()
