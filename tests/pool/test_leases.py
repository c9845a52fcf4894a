"""A worker does not take its own success for a lost lease.

The consumer is a fake, because a renewal has to be answered while an outcome is on its way.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from contextvars import copy_context

import pytest

from models.diffusion.job import Failed
from server.pool.origin import UNKNOWN
from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.worker.held_jobs import HeldJob, HeldJobs
from server.pool.worker.leases import LeaseKeeper
from server.pool.worker.settlement import Settlement
from tests.pool.wire_examples import WORKER

JOB_ID = "job"


class SlowlyAnsweredConsumer(Consumer):
    """Of a Redis that has ended the job already, while the answer that says so waits for ``answer``."""

    def __init__(self, stored: bool) -> None:
        self.asked = asyncio.Event()
        self.renewed = asyncio.Event()
        self.answer = asyncio.Event()
        self._stored = stored

    async def finish(self, job_id: str, outcome: bytes, message: bytes, *, dead_letter: str = "") -> bool:
        self.asked.set()
        await self.answer.wait()
        return self._stored

    async def renew(self, job_ids: Sequence[str], announcement: bytes) -> list[str]:
        if self.renewed.is_set():
            await asyncio.Event().wait()
        self.renewed.set()
        return list(job_ids)


@pytest.mark.parametrize(("stored", "ended", "given_up"), [(True, "failed", None), (False, "", "lost")])
async def test_who_had_the_job_is_said_by_the_answer_to_its_outcome(
    stored: bool, ended: str, given_up: str | None
) -> None:
    consumer = SlowlyAnsweredConsumer(stored)
    held_jobs = HeldJobs(drop=lambda job_id: None)
    taken = TakenJob(JOB_ID, 1, "server", b"", b"", 0.0)
    held = HeldJob(taken, True, UNKNOWN, copy_context(), since=0.0)
    held_jobs.add(held)
    concluding = asyncio.create_task(Settlement(consumer, held_jobs, 60).conclude(held, Failed("render_failed", "no")))
    await consumer.asked.wait()

    renewing = asyncio.create_task(LeaseKeeper(consumer, held_jobs, lambda: WORKER, lease_s=60).renew())
    await consumer.renewed.wait()
    await asyncio.sleep(0)  # the renewal hears what it was told
    assert held.given_up is None
    consumer.answer.set()
    await concluding
    assert (held.ended, held.given_up) == (ended, given_up)
    renewing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await renewing
