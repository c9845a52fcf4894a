"""A worker between a real Redis and a real engine: what it takes, keeps, hands back and gives up."""

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
import torch

from server.observe.worker import TAKEN_OVER
from server.pool.base import Completed, Progress, RenderError
from server.pool.queue.consumer import Consumer
from server.pool.queue.keys import GROUP
from server.pool.queue.producer import Submission
from server.pool.wire import decode_worker, encode_job, encode_outcome
from server.pool.worker import settlement
from server.pool.worker.worker import WorkerError
from tests.pool.deployment import EMPTY_PROMPT, MAX_BATCH, Deployment, RunningWorker
from tests.pool.rendering import begun, eventually, failure, picture, rendered, same_picture
from tests.tiny_diffusion import make_render_job, random_decoder


def running(*workers: RunningWorker) -> list[int]:
    """Jobs in the batch of each."""
    return [each.worker.stats().running for each in workers]


async def test_a_worker_draws_the_jobs_of_several_servers_in_one_batch(deployment: Deployment) -> None:
    worker = await deployment.worker()
    first, second = await deployment.server(), await deployment.server()
    async with begun(first, make_render_job("a", steps=900)), begun(second, make_render_job("b", steps=900)):
        await eventually(lambda: worker.worker.stats().last_batch == 2)


async def test_workers_hold_no_more_than_they_can_draw_at_once(deployment: Deployment) -> None:
    first, second = await deployment.worker(), await deployment.worker()
    pool = await deployment.server()
    async with begun(pool, *(make_render_job(str(n), steps=900) for n in range(6))):
        await eventually(lambda: running(first, second) == [MAX_BATCH, MAX_BATCH])
        assert [await deployment.held_by(worker.id) for worker in (first, second)] == [MAX_BATCH, MAX_BATCH]
        assert await deployment.line() == 6


async def test_a_job_of_another_size_waits_for_a_worker_whose_next_step_can_admit_it(deployment: Deployment) -> None:
    busy = await deployment.worker()
    pool = await deployment.server()
    small = [make_render_job(str(n), steps=900) for n in range(MAX_BATCH)]
    async with begun(pool, *small):
        await eventually(lambda: running(busy) == [MAX_BATCH])
        async with begun(pool, make_render_job("wide", steps=900, width=64)):
            free = await deployment.worker()
            await eventually(lambda: running(busy, free) == [MAX_BATCH, 1])


async def test_a_worker_announces_the_steps_ahead_of_it_in_those_of_the_default_size(deployment: Deployment) -> None:
    await deployment.worker()
    pool, onlooker = await deployment.server(), deployment.producer("onlooker")

    async def is_announced() -> bool:
        [announcement] = (await onlooker.census()).workers
        return 900 < decode_worker(announcement).steps_ahead < 1800

    async with begun(pool, make_render_job("wide", steps=900, width=64)):
        await eventually(is_announced)


async def test_a_cancelled_job_leaves_the_engine_and_its_place_is_free(deployment: Deployment) -> None:
    worker = await deployment.worker()
    pool = await deployment.server()
    async with begun(pool, *(make_render_job(str(n), steps=900) for n in range(MAX_BATCH))) as [first, _]:
        await eventually(lambda: running(worker) == [MAX_BATCH])
        await pool.cancel("0")
        assert await failure(first) == "cancelled"
        assert isinstance((await rendered(pool, make_render_job("next", steps=2)))[-1], Completed)
        assert worker.worker.stats().cancelled == 1
    await eventually(deployment.is_clean)


async def test_a_job_that_its_server_keeps_no_more_is_dropped(deployment: Deployment) -> None:
    worker = await deployment.worker(lease_s=0.4)
    body = encode_job(make_render_job("a", steps=900, guidance_scale=1.0), None)
    await deployment.producer("server").submit(Submission("a", "normal", body, cost=900, states=None), None)
    await eventually(lambda: running(worker) == [1])
    await deployment.client.pexpire(deployment.keys.job("a"), 1)
    await eventually(lambda: worker.worker.stats().cancelled == 1)
    await eventually(deployment.is_clean)


async def test_a_job_that_comes_again_while_it_is_dropped_is_drawn_all_the_same(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropping = threading.Event()
    monkeypatch.setattr(settlement, "encode_outcome", lambda outcome: dropping.wait(60) and encode_outcome(outcome))
    worker = await deployment.worker()
    server = deployment.producer("server")

    async def submit(steps: int) -> None:
        body = encode_job(make_render_job("a", steps=steps, guidance_scale=1.0), None)
        await server.submit(Submission("a", "normal", body, cost=steps, states=None), None)

    async def taken_again() -> bool:
        return await deployment.held_by(worker.id) == 2  # with what is left of the first time

    async def drawn() -> bool:
        return await server.outcome("a") is not None

    await submit(900)
    await eventually(lambda: running(worker) == [1])
    await deployment.client.pexpire(deployment.keys.job("a"), 1)
    await eventually(lambda: worker.worker.stats().cancelled == 1)
    taken_over = TAKEN_OVER._value.get()
    await submit(2)
    await eventually(taken_again)
    dropping.set()
    await eventually(drawn)
    assert TAKEN_OVER._value.get() == taken_over


async def test_the_empty_prompt_is_projected_once_for_all_jobs(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition, projected = deployment.decoder.condition, Counter[bool]()

    def counting(states: torch.Tensor) -> Any:
        projected[states.equal(EMPTY_PROMPT)] += 1
        return condition(states)

    monkeypatch.setattr(deployment.decoder, "condition", counting)
    await deployment.worker()
    for pool in (await deployment.server(), await deployment.server()):
        await asyncio.gather(*(rendered(pool, make_render_job(f"{id(pool)}-{n}")) for n in range(3)))
    assert projected == {True: 1, False: 6}


async def test_of_many_steps_no_more_than_eight_are_told(deployment: Deployment) -> None:
    await deployment.worker()
    pool = await deployment.server()
    for steps in (3, 8, 40):
        updates = await rendered(pool, make_render_job(f"of-{steps}", steps=steps))
        told = [update.step for update in updates if isinstance(update, Progress)]
        assert len(told) <= 8
        assert told[-1] == steps


async def _tried(deployment: Deployment, job_ids: list[str], times: int) -> None:
    """Have workers die with jobs."""
    for n in range(times):
        unlucky = deployment.consumer(f"unlucky-{n}")
        taken = await unlucky.take(len(job_ids), reclaim=True)
        assert sorted(each.id for each in taken) == sorted(job_ids)
        await deployment.run_out(f"unlucky-{n}")


async def test_a_job_on_its_last_try_is_drawn_alone(deployment: Deployment) -> None:
    pool = await deployment.server()
    async with begun(pool, make_render_job("last-try", steps=10), make_render_job("its-neighbour", steps=10)) as old:
        await _tried(deployment, ["last-try", "its-neighbour"], 2)
        async with begun(pool, make_render_job("new", steps=10)) as new:
            worker = await deployment.worker()
            for rendering in [*old, *new]:
                assert isinstance([update async for update in rendering][-1], Completed)
            stats = worker.worker.stats()
    assert stats.job_steps == stats.steps == 30


async def test_a_second_try_is_drawn_with_others(deployment: Deployment) -> None:
    pool = await deployment.server()
    async with begun(pool, make_render_job("a", steps=900), make_render_job("b", steps=900)):
        await _tried(deployment, ["a", "b"], 1)
        worker = await deployment.worker()
        await eventually(lambda: worker.worker.stats().last_batch == 2)


async def test_a_job_that_too_many_workers_died_with_is_given_up(deployment: Deployment) -> None:
    pool = await deployment.server()
    async with begun(pool, make_render_job("poison")) as [rendering]:
        await _tried(deployment, ["poison"], 3)
        worker = await deployment.worker()
        with pytest.raises(RenderError, match="3 workers were lost") as error:
            await anext(rendering)
    assert error.value.code == "worker_lost"
    assert await deployment.dead_letters() == [("poison", "3 workers were lost while they drew it")]
    assert worker.worker.stats().steps == 0
    assert await deployment.is_clean()


async def test_a_draining_worker_finishes_what_it_holds_and_takes_no_more(deployment: Deployment) -> None:
    worker = await deployment.worker(drain_s=60)
    pool = await deployment.server()
    held = [make_render_job(str(n), steps=20) for n in range(MAX_BATCH)]
    async with begun(pool, *held, make_render_job("waiting")) as [*first, waiting]:
        await eventually(lambda: running(worker) == [MAX_BATCH])
        worker.stop.set()
        for rendering in first:
            assert isinstance([update async for update in rendering][-1], Completed)
        await worker.task
        assert await deployment.names("worker") == []
        assert (await deployment.producer("server").census()).waiting == 1
        await deployment.worker()
        assert isinstance([update async for update in waiting][-1], Completed)


async def test_what_a_draining_worker_hands_back_another_finishes_with_the_same_picture(deployment: Deployment) -> None:
    job = make_render_job("a", steps=30)
    pool = await deployment.server()
    first = await deployment.worker(drain_s=0)
    quiet = await picture(pool, job)
    async with begun(pool, job) as [rendering]:
        await eventually(lambda: running(first) == [1])
        second = await deployment.worker()
        await first.end()
        [*_, last] = [update async for update in rendering]
    assert isinstance(last, Completed)
    assert same_picture(last.image, quiet)
    assert second.worker.stats().completed == 1


async def test_a_worker_whose_engine_died_hands_back_and_ends(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = random_decoder()

    def dies(*_: Any) -> torch.Tensor:
        raise SystemExit("the engine's thread is gone")

    pool = await deployment.server()
    first = await deployment.worker(decoder=decoder)
    async with begun(pool, *(make_render_job(str(n), steps=40) for n in range(MAX_BATCH))) as renderings:
        await eventually(lambda: running(first) == [MAX_BATCH])
        monkeypatch.setattr(decoder, "predict", dies)
        with pytest.raises(WorkerError, match="engine died"):
            await first.task
        assert [await deployment.client.hget(deployment.keys.job(str(n)), "tries") for n in range(2)] == [b"1", b"1"]
        await deployment.worker()
        for rendering in renderings:
            assert isinstance([update async for update in rendering][-1], Completed)


async def test_a_worker_of_which_a_part_fails_ends_instead_of_only_seeming_to_work(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> list[str]:
        raise ZeroDivisionError

    worker = await deployment.worker(lease_s=0.1)
    monkeypatch.setattr(Consumer, "renew", broken)
    with pytest.raises(WorkerError) as error:
        await worker.task
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert not worker.worker.alive


async def test_a_worker_that_takes_its_own_job_back_goes_on_with_it(deployment: Deployment) -> None:
    worker = await deployment.worker()
    pool = await deployment.server()

    async def is_taken_again() -> bool:
        await deployment.run_out(worker.id)
        [lease] = await deployment.client.xpending_range(deployment.keys.jobs("normal"), GROUP, "-", "+", 1)
        return bool(lease["times_delivered"] > 1)

    async with begun(pool, make_render_job("a", steps=900)):
        await eventually(is_taken_again)
        steps = worker.worker.stats().steps
        await eventually(lambda: worker.worker.stats().steps > steps + 2)
        assert running(worker) == [1]
    assert await deployment.dead_letters() == []


async def test_a_worker_that_leaves_is_forgotten_at_once(deployment: Deployment) -> None:
    worker = await deployment.worker()
    pool = await deployment.server()
    await rendered(pool, make_render_job("a"))
    await worker.end()
    assert await deployment.names("worker") == []
    for priority in ("high", "normal"):
        assert await deployment.client.xinfo_consumers(deployment.keys.jobs(priority), GROUP) == []
