"""The diffusion engine behind the pool's contract, on the event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import RenderJob
from server.pool.base import (
    Completed,
    DiffusionPool,
    ImageUpdate,
    PoolDeadError,
    Preview,
    Progress,
    Queued,
    RenderError,
)
from server.pool.local import LocalPool
from tests.tiny_diffusion import make_render_job, random_decoder, random_states

MAX_BATCH = 2


@pytest.fixture
def decoder() -> DiffusionDecoder:
    return random_decoder()


@pytest.fixture
async def pool(decoder: DiffusionDecoder) -> AsyncIterator[LocalPool]:
    pool = LocalPool(decoder, max_batch=MAX_BATCH)
    pool.start(random_states(999))
    await rendered(pool, make_render_job("warm-up", steps=3))
    yield pool
    await pool.close(drain_s=0)


async def rendered(pool: DiffusionPool, job: RenderJob) -> list[ImageUpdate]:
    return [update async for update in pool.render(job)]


async def until(pool: LocalPool, job: RenderJob, kind: type[ImageUpdate]) -> AsyncGenerator[ImageUpdate, None]:
    """Begin to render and read up to the first update of a kind."""
    updates = pool.render(job)
    while not isinstance(await anext(updates), kind):
        pass
    return updates


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
    alone = (await rendered(pool, make_render_job("a", seed=3)))[-1]
    others = [rendered(pool, make_render_job(str(n), steps=n + 1, scheduler="ddim")) for n in range(4)]
    among, *_ = await asyncio.gather(rendered(pool, make_render_job("a", seed=3)), *others)
    assert isinstance(alone, Completed)
    assert isinstance(among[-1], Completed)
    difference = alone.image.pixels.astype(int) - among[-1].image.pixels
    assert abs(difference).max() <= 1


async def test_a_consumer_that_comes_late_gets_only_the_latest_progress(pool: LocalPool) -> None:
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


async def test_the_expected_time_grows_with_the_work(pool: DiffusionPool) -> None:
    renderings = [pool.render(make_render_job(str(n), steps=steps)) for n, steps in enumerate([100, 200, 200])]
    short, long, behind = [update for update in [await anext(r) for r in renderings] if isinstance(update, Queued)]
    assert short.eta_s is not None
    assert long.eta_s is not None
    assert behind.eta_s is not None
    assert 0 < short.eta_s < long.eta_s < behind.eta_s
    for rendering in renderings:
        await rendering.aclose()


async def test_the_load_counts_jobs_and_work(pool: DiffusionPool) -> None:
    idle = await pool.load()
    assert (idle.queue_depth, idle.running, idle.seconds_ahead, idle.workers_alive) == (0, 0, 0.0, 1)
    renderings = [pool.render(make_render_job(str(n), steps=900)) for n in range(3)]
    for rendering in renderings:
        await anext(rendering)
    busy = await pool.load()
    assert (busy.queue_depth, busy.running, busy.workers_alive) == (1, 2, 1)
    assert busy.seconds_ahead > 0
    for rendering in renderings:
        await rendering.aclose()
    assert (await pool.load()).running == 0


async def test_jobs_of_another_size_do_not_fill_the_batch_but_take_half_the_time(pool: DiffusionPool) -> None:
    small = [pool.render(make_render_job(f"small {n}", steps=900)) for n in range(MAX_BATCH)]
    wide = pool.render(make_render_job("wide", steps=900, width=64))
    first, _, other_size = [await anext(rendering) for rendering in [*small, wide]]
    assert isinstance(first, Queued)
    assert isinstance(other_size, Queued)
    assert other_size.position == 0
    assert first.eta_s is not None
    assert other_size.eta_s is not None
    assert other_size.eta_s > 1.2 * first.eta_s
    load = await pool.load()
    assert (load.queue_depth, load.running) == (0, 3)
    for rendering in [*small, wide]:
        await rendering.aclose()


async def test_closing_the_iterator_cancels_the_job_and_frees_its_place(pool: LocalPool) -> None:
    abandoned = [await until(pool, make_render_job(str(n), steps=900), Progress) for n in range(MAX_BATCH)]
    waiting = asyncio.create_task(rendered(pool, make_render_job("waiting", steps=2)))
    for rendering in abandoned:
        await rendering.aclose()
    assert isinstance((await waiting)[-1], Completed)
    assert pool.stats().cancelled == MAX_BATCH


async def test_cancelling_the_task_that_consumes_cancels_the_job(pool: LocalPool) -> None:
    begun = asyncio.Event()

    async def consume() -> None:
        async for _ in pool.render(make_render_job("a", steps=900)):
            begun.set()

    task = asyncio.create_task(consume())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.stats().cancelled == 1
    assert (await pool.load()).running == 0


async def test_cancel_ends_the_rendering_with_its_code(pool: LocalPool) -> None:
    rendering = await until(pool, make_render_job("a", steps=900), Progress)
    await pool.cancel("a")
    await pool.cancel("nobody")
    with pytest.raises(RenderError) as error:
        async for _ in rendering:
            pass
    assert error.value.code == "cancelled"


async def test_a_job_that_fails_does_not_touch_the_others(pool: LocalPool) -> None:
    bad, good = await asyncio.gather(
        rendered(pool, make_render_job("bad", seed=2**65)),
        rendered(pool, make_render_job("good")),
        return_exceptions=True,
    )
    assert isinstance(bad, RenderError)
    assert bad.code == "render_failed"
    assert isinstance(good, list)
    assert isinstance(good[-1], Completed)


@pytest.mark.parametrize("changes", [{"width": 31}, {"steps": 0}, {"states": torch.zeros(1, 1)}])
async def test_a_job_that_cannot_be_drawn_is_refused_before_it_is_queued(
    pool: LocalPool, changes: dict[str, Any]
) -> None:
    with pytest.raises(RenderError) as error:
        await anext(pool.render(make_render_job("a", **changes)))
    assert error.value.code == "invalid_job"
    assert (await pool.load()).running == 0


async def test_a_dead_engine_fails_what_runs_and_what_comes(
    decoder: DiffusionDecoder, pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> torch.Tensor:
        raise SystemExit("the engine's thread is gone")

    running = [await until(pool, make_render_job(str(n), steps=900), Progress) for n in range(2)]
    waiting = pool.render(make_render_job("waiting"))
    await anext(waiting)
    monkeypatch.setattr(decoder, "predict", dies)
    for rendering in [*running, waiting]:
        with pytest.raises(RenderError) as error:
            async for _ in rendering:
                pass
        assert error.value.code == "unavailable"
    with pytest.raises(RenderError) as error:
        await anext(pool.render(make_render_job("late")))
    assert error.value.code == "unavailable"
    assert (await pool.load()).workers_alive == 0
    with pytest.raises(PoolDeadError):
        await pool.health()


async def test_closing_lets_running_jobs_finish(pool: LocalPool) -> None:
    rendering = await until(pool, make_render_job("a", steps=30), Progress)
    closing = asyncio.create_task(pool.close(drain_s=60))
    assert isinstance([update async for update in rendering][-1], Completed)
    await closing
    with pytest.raises(RenderError) as error:
        await anext(pool.render(make_render_job("late")))
    assert error.value.code == "unavailable"


async def test_closing_ends_jobs_that_have_no_time_left(pool: LocalPool) -> None:
    rendering = await until(pool, make_render_job("a", steps=900), Progress)
    await pool.close(drain_s=0)
    with pytest.raises(RenderError) as error:
        async for _ in rendering:
            pass
    assert error.value.code == "unavailable"


async def test_the_expected_time_is_unknown_before_the_first_picture(decoder: DiffusionDecoder) -> None:
    pool = LocalPool(decoder)
    pool.start(random_states(999))
    queued = await anext(rendering := pool.render(make_render_job("a")))
    assert isinstance(queued, Queued)
    assert queued.eta_s is None
    await rendering.aclose()
    await pool.close(drain_s=0)


async def test_a_pool_that_was_not_started_says_so(decoder: DiffusionDecoder) -> None:
    pool = LocalPool(decoder)
    assert (await pool.load()).workers_alive == 0
    with pytest.raises(RenderError) as error:
        await anext(pool.render(make_render_job("a")))
    assert error.value.code == "unavailable"
    await pool.close()
