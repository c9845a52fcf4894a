"""What is particular to the pool in this process. What it shares with others is in ``test_pool``."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.pipeline import RenderPipeline
from models.diffusion.step_times import StepTimes
from server.pool.base import Completed, PoolDeadError, Progress, Queued
from server.pool.local import LocalPool
from tests.pool.rendering import begun, failure, rendered, up_to
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


async def test_the_expected_time_is_that_of_the_batches_that_the_job_will_be_in(
    pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = dataclasses.replace(pool.stats(), step_times=StepTimes(((1, 1.0), (2, 1.5))), finish_s=0.25)
    monkeypatch.setattr(RenderPipeline, "stats", lambda _: stats)
    jobs = [make_render_job("alone"), make_render_job("pair"), make_render_job("wide", width=64)]
    renderings = [pool.render(dataclasses.replace(job, steps=900)) for job in jobs]
    expected = [update.eta_s for update in [await anext(r) for r in renderings] if isinstance(update, Queued)]
    # The third takes turns with the other size, and its pictures are twice as big.
    assert expected == [900 * 1.0 + 0.25, 900 * 1.5 + 0.25, 900 * (1.5 + 2 * 1.0) + 0.25]
    for rendering in renderings:
        await rendering.aclose()


async def test_jobs_of_another_size_do_not_fill_the_batch_but_take_half_the_time(pool: LocalPool) -> None:
    small = [pool.render(make_render_job(f"small-{n}", steps=900)) for n in range(MAX_BATCH)]
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


async def test_the_load_is_that_of_this_moment(pool: LocalPool) -> None:
    async with begun(pool, *(make_render_job(str(n), steps=900) for n in range(3))):
        busy = await pool.load()
        assert (busy.queue_depth, busy.running) == (1, 2)
        assert busy.seconds_ahead > 0
    idle = await pool.load()
    assert (idle.queue_depth, idle.running, idle.seconds_ahead) == (0, 0, 0.0)


async def test_a_dead_engine_fails_what_runs_and_what_comes(
    decoder: DiffusionDecoder, pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> torch.Tensor:
        raise SystemExit("the engine's thread is gone")

    running = [await up_to(pool, make_render_job(str(n), steps=900), Progress) for n in range(2)]
    waiting = pool.render(make_render_job("waiting"))
    await anext(waiting)
    monkeypatch.setattr(decoder, "predict", dies)
    assert [await failure(rendering) for rendering in [*running, waiting]] == ["unavailable"] * 3
    assert await failure(pool.render(make_render_job("late"))) == "unavailable"
    assert (await pool.load()).workers_alive == 0
    with pytest.raises(PoolDeadError):
        await pool.health()


async def test_closing_lets_running_jobs_finish(pool: LocalPool) -> None:
    rendering = await up_to(pool, make_render_job("a", steps=30), Progress)
    closing = asyncio.create_task(pool.close(drain_s=60))
    assert isinstance([update async for update in rendering][-1], Completed)
    await closing
    assert await failure(pool.render(make_render_job("late"))) == "unavailable"


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
    assert await failure(pool.render(make_render_job("a"))) == "unavailable"
    await pool.close()
