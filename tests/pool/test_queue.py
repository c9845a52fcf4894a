"""The queue in a real Redis: who gets which job, who holds it, and what is left when it has ended."""

import asyncio
import time
from typing import Any

import pytest

from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.queue.keys import GROUP
from server.pool.queue.producer import DuplicateJobError, Kept, Producer, StatesMissingError, Submission
from tests.pool.deployment import Deployment
from tests.pool.rendering import eventually


def job(id: str, priority: Any = "normal", *, cost: float = 4.0, states: str | None = None) -> Submission:
    return Submission(id, priority, f"body of {id}".encode(), cost, states)


@pytest.fixture
def server(deployment: Deployment) -> Producer:
    return deployment.producer("server")


@pytest.fixture
def alice(deployment: Deployment) -> Consumer:
    """A worker."""
    return deployment.consumer("alice")


@pytest.fixture
def bob(deployment: Deployment) -> Consumer:
    """Another one."""
    return deployment.consumer("bob")


async def take(worker: Consumer, room: int = 10, *, reclaim: bool = False) -> list[str]:
    return [taken.id for taken in await worker.take(room, reclaim=reclaim)]


async def messages(server: Producer) -> list[bytes]:
    return [message async for message in server.replies(0.001)]


async def test_a_job_is_in_line_until_it_has_an_outcome(
    deployment: Deployment, server: Producer, alice: Consumer
) -> None:
    assert await server.submit(job("a"), None) == 0
    assert await alice.take(10, reclaim=False) == [TakenJob("a", 1, "server", b"body of a")]
    assert (await deployment.line(), await deployment.held_by("alice")) == (1, 1)
    assert await alice.finish("a", b"picture", b"done")
    assert (await deployment.line(), await deployment.held_by("alice")) == (0, 0)
    assert await server.outcome("a") == b"picture"
    assert await server.outcome("a") is None
    assert await deployment.is_clean()


async def test_submitting_again_changes_nothing(deployment: Deployment, server: Producer, alice: Consumer) -> None:
    await server.submit(job("other"), None)
    assert [await server.submit(job("a"), None) for _ in range(3)] == [1, 1, 1]
    assert await take(alice) == ["other", "a"]
    await server.submit(job("a"), None)
    assert await take(alice) == []
    await alice.finish("a", b"picture", b"done")
    assert await server.submit(job("a"), None) is None
    assert await deployment.line() == 1


async def test_an_open_id_is_its_servers_alone(deployment: Deployment, server: Producer, alice: Consumer) -> None:
    await server.submit(job("a"), None)
    stranger = deployment.producer("stranger")
    with pytest.raises(DuplicateJobError):
        await stranger.submit(job("a"), None)
    await stranger.cancel(["a"])
    assert await take(alice) == ["a"]


async def test_a_job_with_states_that_redis_does_not_hold_leaves_nothing_behind(
    deployment: Deployment, server: Producer
) -> None:
    with pytest.raises(StatesMissingError):
        await server.submit(job("a", states="digest"), None)
    assert await deployment.names() == []
    await server.share_states("digest", b"states")
    assert await server.submit(job("a", states="digest"), None) == 0
    assert await deployment.consumer("worker").states("digest") == b"states"


async def test_high_priority_is_taken_first_and_each_kind_in_order(server: Producer, alice: Consumer) -> None:
    for id, priority in [("n1", "normal"), ("h1", "high"), ("n2", "normal"), ("h2", "high")]:
        await server.submit(job(id, priority), None)
    assert await take(alice, 3) == ["h1", "h2", "n1"]
    assert await take(alice, 3) == ["n2"]


async def test_before_a_job_are_those_at_work_and_those_that_go_first(server: Producer, alice: Consumer) -> None:
    await server.submit(job("held"), None)
    await take(alice)
    assert await server.submit(job("n1"), None) == 1
    assert await server.submit(job("h1", "high"), None) == 1
    assert await server.submit(job("h2", "high"), None) == 2
    assert await server.submit(job("n2"), None) == 4


async def test_a_job_that_arrives_is_given_to_a_worker_that_waits(server: Producer, alice: Consumer) -> None:
    waiting = asyncio.create_task(alice.wait(60))
    await server.submit(job("a", "high"), None)
    assert [taken.id for taken in await waiting] == ["a"]
    waiting = asyncio.create_task(alice.wait(60))
    await server.submit(job("b"), None)
    assert [taken.id for taken in await waiting] == ["b"]
    assert await alice.wait(0.001) == []


async def test_streams_that_redis_lost_are_made_again(
    deployment: Deployment, server: Producer, alice: Consumer
) -> None:
    await take(alice)
    await deployment.client.delete(deployment.keys.jobs("normal"), deployment.keys.jobs("high"))
    await server.submit(job("a"), None)
    assert [taken.id for taken in await alice.wait(60)] == ["a"]


async def test_a_lease_that_ran_out_goes_to_another_worker_and_the_first_outcome_counts(
    deployment: Deployment, server: Producer, alice: Consumer, bob: Consumer
) -> None:
    await server.submit(job("a"), None)
    await take(alice)
    assert await take(bob, reclaim=True) == []
    await deployment.run_out("alice")
    assert await take(bob) == []
    assert await bob.take(10, reclaim=True) == [TakenJob("a", 2, "server", b"body of a")]
    assert await alice.renew(["a"], b"info") == ["a"]
    assert await bob.renew(["a"], b"info") == []
    assert await alice.finish("a", b"from alice", b"done")
    assert not await bob.finish("a", b"from bob", b"done")
    assert await server.outcome("a") == b"from alice"


async def test_a_renewed_lease_begins_anew_and_counts_no_try(
    deployment: Deployment, server: Producer, alice: Consumer
) -> None:
    await server.submit(job("a"), None)
    await take(alice)
    await deployment.run_out("alice")
    since = time.monotonic()
    assert await alice.renew(["a"], b"info") == []
    [lease] = await deployment.client.xpending_range(deployment.keys.jobs("normal"), GROUP, "-", "+", 10)
    assert lease["time_since_delivered"] <= 1000 * (time.monotonic() - since) + 1
    assert lease["times_delivered"] == 1


async def test_a_lease_that_ran_out_is_found_behind_many_that_did_not(
    deployment: Deployment, server: Producer, alice: Consumer, bob: Consumer
) -> None:
    for n in range(50):
        await server.submit(job(f"live-{n}"), None)
    assert len(await take(alice, 50)) == 50
    await server.submit(job("lost"), None)
    await take(deployment.consumer("dead"))
    await deployment.run_out("dead")
    assert await take(bob, 1, reclaim=True) == ["lost"]


@pytest.mark.parametrize("counts", [True, False])
async def test_a_job_that_is_handed_back_goes_before_all_that_wait(
    server: Producer, alice: Consumer, bob: Consumer, counts: bool
) -> None:
    await server.submit(job("a"), None)
    await server.submit(job("b"), None)
    await take(alice, 1)
    assert not await bob.hand_back("a", counts=counts)
    assert await alice.hand_back("a", counts=counts)
    [taken] = await bob.take(1, reclaim=False)
    assert (taken.id, taken.tries) == ("a", 2 if counts else 1)
    assert await take(bob) == ["b"]


async def test_a_cancelled_job_is_gone_from_the_line_and_its_worker_is_told(
    deployment: Deployment, server: Producer, alice: Consumer
) -> None:
    heard = alice.cancellations()
    hearing = asyncio.ensure_future(anext(heard))
    channel = deployment.keys.cancellations("alice")
    await eventually(lambda: _is_heard(deployment, channel))
    for id in ("done", "held"):
        await server.submit(job(id), None)
        await take(alice)
    await alice.finish("done", b"picture", b"done")
    await server.submit(job("waiting"), None)
    await server.cancel(["waiting", "held", "done", "unknown"])
    assert await hearing == "held"
    assert await deployment.is_clean()
    assert not await alice.finish("held", b"picture", b"done")
    await heard.aclose()


async def _is_heard(deployment: Deployment, channel: str) -> bool:
    [(_, listeners)] = await deployment.client.pubsub_numsub(channel)
    return bool(listeners)


async def test_the_census_counts_what_waits_and_what_is_held(server: Producer, alice: Consumer) -> None:
    empty = await server.census()
    assert (empty.workers, empty.waiting, empty.cost, empty.held) == ((), 0, 0.0, 0)
    for n in range(3):
        await server.submit(job(str(n), cost=10.5), None)
    await server.submit(job("high", "high", cost=1.0), None)
    early = await server.census()
    assert (early.waiting, early.cost, early.held) == (4, 32.5, 0)
    await take(alice, 2)
    census = await server.census()
    assert (census.waiting, census.cost, census.held) == (2, 21.0, 2)


async def test_the_census_knows_the_workers_that_announce_themselves_and_no_others(
    deployment: Deployment, server: Producer, alice: Consumer, bob: Consumer
) -> None:
    await alice.renew([], b"alice's")
    await bob.renew([], b"bob's")
    await deployment.consumer("dead", lease_s=0.001).renew([], b"dead's")

    async def are_known() -> bool:
        return set((await server.census()).workers) == {b"alice's", b"bob's"}

    await eventually(are_known)


async def test_a_long_line_is_counted_in_full(server: Producer, alice: Consumer) -> None:
    await asyncio.gather(*(server.submit(job(f"job-{n}", cost=2.0), None) for n in range(1100)))
    await take(alice, 20)
    census = await server.census()
    assert (census.waiting, census.cost, census.held) == (1080, 2160.0, 20)


async def test_keeping_finds_jobs_that_ended_or_are_gone(
    deployment: Deployment, server: Producer, alice: Consumer
) -> None:
    for id in ("open", "done", "lost"):
        await server.submit(job(id), None)
    await alice.take(10, reclaim=False)
    await alice.finish("done", b"picture", b"done")
    await deployment.client.delete(deployment.keys.job("lost"))
    assert await server.keep({"open": None, "done": None, "lost": 5.0}) == Kept(("done",), ("lost",))


async def test_a_job_outlives_neither_its_server_nor_its_deadline_for_long(deployment: Deployment) -> None:
    server = deployment.producer("server", lease_s=10)
    await server.submit(job("a"), None)
    await server.submit(job("b"), 2.0)
    assert 9_000 < await deployment.client.pttl(deployment.keys.job("a")) <= 10_000
    assert await deployment.client.pttl(deployment.keys.job("b")) <= 3_000
    await deployment.client.pexpire(deployment.keys.job("a"), 100)
    await server.keep({"a": 60.0, "b": 1.0})
    assert 9_000 < await deployment.client.pttl(deployment.keys.job("a")) <= 10_000
    assert await deployment.client.pttl(deployment.keys.job("b")) <= 2_000


async def test_messages_come_once_and_those_that_were_read_are_trimmed(
    deployment: Deployment, server: Producer, alice: Consumer
) -> None:
    replies = deployment.keys.replies("server")
    await alice.tell("server", b"too early")
    await server.keep({})
    for n in range(5):
        await alice.tell("server", str(n).encode())
    assert await messages(server) == [b"0", b"1", b"2", b"3", b"4"]
    assert await messages(server) == []
    await server.keep({})
    assert await deployment.client.xlen(replies) == 1
    await deployment.client.delete(replies)
    await server.keep({})
    await alice.tell("server", b"after a loss")
    assert await messages(server) == [b"after a loss"]
    await server.leave()
    assert await deployment.names("replies:") == []


async def test_messages_that_nobody_reads_stay_few(deployment: Deployment, server: Producer, alice: Consumer) -> None:
    await server.keep({})
    await asyncio.gather(*(alice.tell("server", b"progress") for _ in range(2300)))
    assert await deployment.client.xlen(deployment.keys.replies("server")) < 2200


async def test_a_worker_that_leaves_or_is_forgotten_leaves_no_trace(
    deployment: Deployment, server: Producer, alice: Consumer, bob: Consumer
) -> None:
    for worker in (alice, bob):
        await take(worker)
        await worker.renew([], b"info")
    await server.submit(job("a"), None)
    await take(bob)
    await alice.leave()
    await bob.leave()
    assert (await server.census()).workers == ()
    assert await deployment.names("worker") == []
    assert await _members(deployment) == {b"bob"}  # in whose name there is still a job
    await bob.finish("a", b"picture", b"done")
    await bob.sweep()
    assert await _members(deployment) == {b"bob"}
    await bob.leave()
    assert await _members(deployment) == set()


async def _members(deployment: Deployment) -> set[bytes]:
    streams = [deployment.keys.jobs(priority) for priority in ("high", "normal")]
    groups = [await deployment.client.xinfo_consumers(stream, GROUP) for stream in streams]
    return {member["name"] for group in groups for member in group}
