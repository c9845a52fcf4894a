"""What holds of every pool: the engine in this process, and workers behind a real Redis."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.stats import EngineStats
from server.pool.base import Completed, DiffusionPool, Preview, Progress, Queued, RenderError
from server.pool.local import LocalPool
from server.pool.worker import worker
from tests.pool.deployment import EMPTY_PROMPT, MAX_BATCH, Deployment
from tests.pool.rendering import Rendering, begun, eventually, failure, picture, rendered, same_picture
from tests.redis_server import RedisServer
from tests.tiny_diffusion import EVERY_PREVIEW, make_render_job, random_decoder, random_states


@dataclass(frozen=True, slots=True)
class PoolUnderTest:
    """A pool that draws at most ``MAX_BATCH`` pictures together, and what the tests may know of its inside.

    Attributes:
        pool: with its speed measured.
        decoder: that draws, in this process.
        stats: of its one engine.
        close: ends it and the jobs at work.
    """

    pool: DiffusionPool
    decoder: DiffusionDecoder
    stats: Callable[[], EngineStats]
    close: Callable[[], Awaitable[None]]

    @asynccontextmanager
    async def drawing(self, jobs: int = MAX_BATCH) -> AsyncGenerator[list[Rendering], None]:
        """Jobs ``"0"``, ``"1"``, … that are in the batch, and stay there as long as a test may take."""
        async with begun(self.pool, *(make_render_job(str(n), steps=900) for n in range(jobs))) as renderings:
            await eventually(lambda: self.stats().running == jobs)
            yield renderings

    async def busy(self, waiting: int, running: int) -> bool:
        """Whether so many jobs wait and run, and it is known how much work that is."""
        load = await self.pool.load()
        return (load.queue_depth, load.running) == (waiting, running) and (load.seconds_ahead > 0) == (running > 0)


@asynccontextmanager
async def local(decoder: DiffusionDecoder, _: pytest.FixtureRequest) -> AsyncGenerator[PoolUnderTest, None]:
    pool = LocalPool(decoder, max_batch=MAX_BATCH, preview_share=EVERY_PREVIEW)
    pool.start(EMPTY_PROMPT)
    yield PoolUnderTest(pool, decoder, pool.stats, lambda: pool.close(drain_s=0))
    await pool.close(drain_s=0)


@asynccontextmanager
async def redis(decoder: DiffusionDecoder, request: pytest.FixtureRequest) -> AsyncGenerator[PoolUnderTest, None]:
    server: RedisServer = request.getfixturevalue("redis_server")
    async with Deployment(server.url, request.getfixturevalue("namespace"), decoder) as deployment:
        running = await deployment.worker()
        pool = await deployment.server()
        yield PoolUnderTest(pool, decoder, running.worker.stats, pool.close)
        await pool.close()
        await eventually(deployment.is_clean)


@pytest.fixture(params=[local, redis], ids=lambda make: make.__name__)
async def tested(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PoolUnderTest]:
    monkeypatch.setattr(worker, "WAIT_S", 0.1)
    async with request.param(random_decoder(), request) as tested:
        await rendered(tested.pool, make_render_job("warm-up", steps=3))
        yield tested


@pytest.fixture
def pool(tested: PoolUnderTest) -> DiffusionPool:
    return tested.pool


async def test_updates_come_in_order_and_end_with_the_picture(pool: DiffusionPool) -> None:
    updates = await rendered(pool, make_render_job("a", steps=6, previews=2, format="webp"))
    assert isinstance(updates[0], Queued)
    assert isinstance(updates[-1], Completed)
    assert not any(isinstance(update, Queued | Completed) for update in updates[1:-1])
    assert [update.index for update in updates if isinstance(update, Preview)] == [0, 1]
    steps = [update.step for update in updates if isinstance(update, Progress)]
    assert steps == sorted(steps)
    assert steps[-1] == 6
    assert updates[-1].image.format == "webp"
    assert updates[-1].image.pixels.shape == (32, 32, 3)


async def test_a_seed_gives_the_same_picture_alone_and_among_others(pool: DiffusionPool) -> None:
    alone = await picture(pool, make_render_job("a", seed=3))
    others = [rendered(pool, make_render_job(str(n), steps=n + 1, scheduler="ddim")) for n in range(4)]
    among, *_ = await asyncio.gather(picture(pool, make_render_job("a", seed=3)), *others)
    assert same_picture(alone, among)


async def test_the_empty_prompt_guides_jobs_that_bring_no_negative_states(pool: DiffusionPool) -> None:
    without = await picture(pool, make_render_job("a"))
    assert same_picture(without, await picture(pool, make_render_job("a", negative_states=EMPTY_PROMPT)))
    assert not same_picture(without, await picture(pool, make_render_job("a", negative_states=random_states(5))))


async def test_a_consumer_that_comes_late_gets_only_the_latest_progress(pool: DiffusionPool) -> None:
    slow = pool.render(make_render_job("slow", steps=8))
    assert isinstance(await anext(slow), Queued)
    await rendered(pool, make_render_job("other", steps=20))
    rest = [update async for update in slow]
    assert rest[0] == Progress(8, 8)
    assert isinstance(rest[-1], Completed)
    assert len(rest) == 2


async def test_the_position_counts_the_jobs_that_must_leave_first(pool: DiffusionPool) -> None:
    renderings = [pool.render(make_render_job(str(n), steps=900)) for n in range(4)]
    positions = [update.position for update in [await anext(r) for r in renderings] if isinstance(update, Queued)]
    assert positions == [0, 0, 1, 2]
    for rendering in renderings:
        await rendering.aclose()


async def test_a_job_of_high_priority_stands_before_normal_ones_that_have_not_begun(tested: PoolUnderTest) -> None:
    waiting = [make_render_job(f"waiting-{n}", steps=900) for n in range(3)]
    async with tested.drawing(), begun(tested.pool, *waiting):
        urgent = tested.pool.render(make_render_job("urgent", priority="high"))
        last = tested.pool.render(make_render_job("last"))
        queued = [await anext(rendering) for rendering in (urgent, last)]
        assert [update.position for update in queued if isinstance(update, Queued)] == [1, 5]
        for rendering in (urgent, last):
            await rendering.aclose()


async def test_a_job_of_high_priority_is_drawn_before_normal_ones_that_have_not_begun(tested: PoolUnderTest) -> None:
    jobs = [make_render_job("normal", steps=10), make_render_job("urgent", steps=10, priority="high")]
    order = []

    async def finish(job_id: str, updates: Rendering) -> None:
        async for _ in updates:
            pass
        order.append(job_id)

    async with tested.drawing() as [first, _], begun(tested.pool, *jobs) as waiting:
        finishing = [asyncio.create_task(finish(job.id, updates)) for job, updates in zip(jobs, waiting, strict=True)]
        await first.aclose()
        await asyncio.gather(*finishing)
    assert order == ["urgent", "normal"]


async def test_the_expected_time_grows_with_the_work(tested: PoolUnderTest) -> None:
    expected = []
    renderings = [tested.pool.render(make_render_job(str(n), steps=steps)) for n, steps in enumerate([200, 400, 400])]
    for count, rendering in enumerate(renderings):
        await eventually(lambda count=count: tested.busy(waiting=0, running=count))
        queued = await anext(rendering)
        assert isinstance(queued, Queued)
        expected.append(queued.eta_s)
    short, long, behind = expected
    assert short is not None
    assert long is not None
    assert behind is not None
    assert 0 < short < long < behind
    for rendering in renderings:
        await rendering.aclose()


async def test_the_load_counts_jobs_and_work(tested: PoolUnderTest) -> None:
    await eventually(lambda: tested.busy(waiting=0, running=0))
    assert (await tested.pool.load()).workers_alive == 1
    async with begun(tested.pool, *(make_render_job(str(n), steps=900) for n in range(3))):
        await eventually(lambda: tested.busy(waiting=1, running=2))
        assert (await tested.pool.load()).workers_alive == 1
    await eventually(lambda: tested.busy(waiting=0, running=0))


async def test_closing_the_iterator_cancels_the_job_and_frees_its_place(tested: PoolUnderTest) -> None:
    async with tested.drawing() as abandoned:
        waiting = asyncio.create_task(rendered(tested.pool, make_render_job("waiting", steps=2)))
        for rendering in abandoned:
            await rendering.aclose()
        assert isinstance((await waiting)[-1], Completed)
    await eventually(lambda: tested.stats().cancelled == MAX_BATCH)


async def test_cancelling_the_task_that_consumes_cancels_the_job(tested: PoolUnderTest) -> None:
    task = asyncio.create_task(rendered(tested.pool, make_render_job("a", steps=900)))
    await eventually(lambda: tested.stats().running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: tested.stats().cancelled == 1)
    await eventually(lambda: tested.busy(waiting=0, running=0))


async def test_cancel_ends_the_rendering_with_its_code(tested: PoolUnderTest) -> None:
    async with tested.drawing(1) as [rendering]:
        await tested.pool.cancel("0")
        await tested.pool.cancel("nobody")
        assert await failure(rendering) == "cancelled"
    await eventually(lambda: tested.stats().cancelled == 1)
    await tested.pool.cancel("0")


async def test_a_job_whose_time_runs_out_ends_as_timed_out_and_frees_its_place(
    tested: PoolUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, go_on = tested.decoder.predict, threading.Event()

    def stuck(*arguments: Any) -> torch.Tensor:
        go_on.wait()
        return predict(*arguments)

    monkeypatch.setattr(tested.decoder, "predict", stuck)
    assert await failure(tested.pool.render(make_render_job("slow", steps=900, timeout_s=0.01))) == "timeout"
    go_on.set()
    await eventually(lambda: tested.busy(waiting=0, running=0))
    assert isinstance((await rendered(tested.pool, make_render_job("next", timeout_s=3600.0)))[-1], Completed)


async def test_time_runs_out_while_the_consumer_is_busy_elsewhere(tested: PoolUnderTest) -> None:
    unread = [make_render_job(f"unread-{n}", steps=900, timeout_s=0.5) for n in range(MAX_BATCH)]
    async with begun(tested.pool, *unread) as renderings:
        assert isinstance((await rendered(tested.pool, make_render_job("next", steps=2)))[-1], Completed)
        assert [await failure(rendering) for rendering in renderings] == ["timeout"] * MAX_BATCH


async def test_a_job_that_fails_does_not_touch_the_others(
    tested: PoolUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition, unlucky = tested.decoder.condition, random_states(13)

    def fails(states: torch.Tensor) -> Any:
        if states.equal(unlucky):
            raise RuntimeError("there is no picture of this")
        return condition(states)

    monkeypatch.setattr(tested.decoder, "condition", fails)
    good = asyncio.create_task(rendered(tested.pool, make_render_job("good")))
    with pytest.raises(RenderError, match="could not be drawn") as error:
        await rendered(tested.pool, make_render_job("bad", states=unlucky))
    assert error.value.code == "render_failed"
    assert isinstance((await good)[-1], Completed)


@pytest.mark.parametrize("changes", [{"width": 31}, {"steps": 0}, {"states": torch.zeros(1, 1)}])
async def test_a_job_that_cannot_be_drawn_is_refused_before_it_is_queued(
    tested: PoolUnderTest, changes: dict[str, Any]
) -> None:
    with pytest.raises(RenderError) as error:
        await anext(tested.pool.render(make_render_job("a", **changes)))
    assert error.value.code == "invalid_job"
    await eventually(lambda: tested.busy(waiting=0, running=0))


async def test_an_id_that_is_at_work_is_refused_and_the_first_job_goes_on(tested: PoolUnderTest) -> None:
    first = tested.pool.render(make_render_job("a", steps=10))
    await anext(first)
    assert await failure(tested.pool.render(make_render_job("a"))) == "invalid_job"
    assert isinstance([update async for update in first][-1], Completed)


async def test_of_two_jobs_that_come_at_once_with_one_id_one_is_refused(pool: DiffusionPool) -> None:
    both = await asyncio.gather(*(rendered(pool, make_render_job("a")) for _ in range(2)), return_exceptions=True)
    refused = [each for each in both if isinstance(each, RenderError)]
    done = [each for each in both if isinstance(each, list)]
    assert [error.code for error in refused] == ["invalid_job"]
    assert [isinstance(updates[-1], Completed) for updates in done] == [True]


async def test_a_pool_that_is_closed_ends_what_is_at_work_and_takes_no_more(tested: PoolUnderTest) -> None:
    async with tested.drawing(1) as [rendering]:
        await tested.close()
        assert await failure(rendering) == "unavailable"
        assert await failure(tested.pool.render(make_render_job("late"))) == "unavailable"


async def test_a_pool_is_healthy_while_it_may_draw(pool: DiffusionPool) -> None:
    await pool.health()
