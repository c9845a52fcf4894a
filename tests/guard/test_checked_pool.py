"""A pool behind a check: what is refused does not leave it, and all else is as without."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
import torch

from server.guard.checked_pool import CheckedPool
from server.guard.checks import Checks
from server.pool.base import (
    Completed,
    ImageUpdate,
    PoolDeadError,
    PoolLoad,
    Preview,
    Progress,
    Queued,
    RenderError,
    RenderJob,
)
from tests.guard.example_checks import Breaking, Hanging, RedPictures
from tests.scripted.pool import JobItem, ScriptedPool, rendered
from tests.scripted.script import Gate

JOB = RenderJob("job", torch.zeros(4, 8), None, 16, 16, 3, 2.0, "ddim", seed=1, previews=3)
RED, GREY = rendered(JOB, (200, 30, 30)), rendered(JOB, (90, 90, 90))


async def updates(script: Sequence[JobItem], checks: Checks) -> tuple[list[ImageUpdate], str | None]:
    """What comes of a job, and the code of the error that ends it."""
    got: list[ImageUpdate] = []
    try:
        async with aclosing(CheckedPool(ScriptedPool([script]), checks).render(JOB)) as rendering:
            async for update in rendering:
                got.append(update)  # noqa: PERF401 - also what came before an error
    except RenderError as error:
        return got, error.code
    return got, None


async def test_what_passes_comes_as_it_is() -> None:
    script: list[JobItem] = [Queued(0, None), Progress(1, 3), Preview(0, GREY), Progress(2, 3), Completed(GREY)]
    assert await updates(script, Checks(image=RedPictures())) == (script, None)
    assert await updates(script, Checks()) == (script, None)


async def test_a_refused_picture_is_an_error_like_any_other() -> None:
    script: list[JobItem] = [Queued(0, None), Completed(RED)]
    assert await updates(script, Checks(image=RedPictures())) == ([Queued(0, None)], "content_filtered")


async def test_a_picture_that_cannot_be_checked_is_an_error_under_another_code() -> None:
    assert await updates([Completed(GREY)], Checks(image=Breaking())) == ([], "check_failed")


async def test_a_refused_preview_is_left_out_and_the_next_is_judged_by_itself() -> None:
    script: list[JobItem] = [Preview(0, GREY), Preview(1, RED), Preview(2, GREY), Completed(GREY)]
    shown, _ = await updates(script, Checks(image=RedPictures()))
    assert shown == [script[0], script[2], script[3]]


async def test_a_preview_that_cannot_be_checked_is_left_out() -> None:
    shown, _ = await updates([Preview(0, GREY), Progress(1, 3), Completed(GREY)], Checks(image=Breaking()))
    assert shown == [Progress(1, 3)]


async def test_closing_cancels_the_job_also_while_its_picture_is_checked() -> None:
    hanging, pool = Hanging(), ScriptedPool([[Queued(0, None), Preview(0, GREY), Gate()]])
    checked = CheckedPool(pool, Checks(image=hanging, timeout_s=60))

    async def render() -> None:
        async with aclosing(checked.render(JOB)) as rendering:
            async for _ in rendering:
                queued.set()

    queued = asyncio.Event()
    rendering = asyncio.create_task(render())
    await queued.wait()
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    hanging.let_go()
    assert pool.record.aborted == ["job"]


async def test_the_rest_is_the_pools() -> None:
    gate, load = Gate(), PoolLoad(queue_depth=3, running=1, seconds_ahead=4.0, workers_alive=2)
    pool = ScriptedPool([[Queued(0, None), gate]], load)
    checked = CheckedPool(pool, Checks(image=RedPictures()))
    assert await checked.load() == load

    rendering = asyncio.create_task(collect(checked))
    await gate.reached.wait()
    await checked.cancel("job")
    with pytest.raises(RenderError, match="cancelled"):
        await rendering

    pool.dead = True
    with pytest.raises(PoolDeadError):
        await checked.health()


async def collect(pool: CheckedPool) -> list[ImageUpdate]:
    return [update async for update in pool.render(JOB)]
