"""Ending tasks for certain."""

import asyncio

import pytest

from server.tasks import end


async def test_a_task_has_ended_when_end_returns() -> None:
    released = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            released.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end([task])
    assert task.cancelled()
    assert released.is_set()


async def test_the_failure_of_a_task_stays_in_it() -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end([task])
    assert isinstance(task.exception(), ZeroDivisionError)


async def test_a_caller_that_is_cancelled_meanwhile_still_waits_and_is_cancelled_then() -> None:
    cancelled, released = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await released.wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end([task]))
    await cancelled.wait()
    for _ in range(3):
        ending.cancel()
        await asyncio.sleep(0)
    assert not ending.done()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.done()


async def test_tasks_that_have_ended_are_left_alone() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await end([task])
    assert not task.cancelled()
