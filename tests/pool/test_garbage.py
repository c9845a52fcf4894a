"""Whatever lies in Redis: workers and servers refuse it, say why, and go on."""

import uuid
from collections.abc import AsyncIterator

import msgpack
import pytest

from server.pool.base import Completed, Progress, RenderError
from server.pool.redis import submission
from server.pool.redis.pool import RedisPool
from server.pool.wire import Message, Stored, encode_job, encode_message, encode_states, states_digest
from tests.pool.deployment import EMPTY_PROMPT, MAX_STEPS, Deployment, RunningWorker
from tests.pool.rendering import FOR_EVER_S, begun, eventually, failure, picture, rendered
from tests.tiny_diffusion import make_render_job, random_states

RANDOM = bytes(range(256))
DIGEST = states_digest(EMPTY_PROMPT)


@pytest.fixture
async def worker(deployment: Deployment) -> AsyncIterator[RunningWorker]:
    """Still at work at the end."""
    worker = await deployment.worker()
    yield worker
    assert not worker.task.done()


@pytest.fixture
async def pool(deployment: Deployment) -> AsyncIterator[RedisPool]:
    """Of a server that still gets its pictures at the end."""
    pool = await deployment.server(lease_s=0.5)
    yield pool
    updates = await rendered(pool, make_render_job("last", timeout_s=FOR_EVER_S))
    assert isinstance(updates[-1], Completed)
    assert any(isinstance(update, Progress) for update in updates)
    await pool.health()
    await eventually(deployment.is_clean)


@pytest.mark.parametrize("id", [b"", b"two words", RANDOM, b"x" * 10_000, "schön".encode()])
@pytest.mark.parametrize("priority", ["normal", "high"])
async def test_an_entry_that_names_no_job_is_taken_out_of_line(
    deployment: Deployment, worker: RunningWorker, pool: RedisPool, id: bytes, priority: str
) -> None:
    await deployment.client.xadd(deployment.keys.jobs(priority), {"job": id, "cost": RANDOM})
    await eventually(lambda: _line_is(deployment, 0))


async def _line_is(deployment: Deployment, length: int) -> bool:
    return await deployment.line() == length


async def test_entries_of_other_fields_and_of_jobs_in_another_place_are_taken_out_of_line(
    deployment: Deployment, worker: RunningWorker, pool: RedisPool
) -> None:
    async with begun(pool, make_render_job("a", steps=900)):
        await deployment.client.xadd(deployment.keys.jobs("normal"), {RANDOM: RANDOM})
        await deployment.client.xadd(deployment.keys.jobs("high"), {"job": "a"})
        await deployment.client.xadd(deployment.keys.jobs("normal"), {"job": "a", "cost": "nan"})
        await eventually(lambda: _line_is(deployment, 1))
        assert (await pool.load()).running == 1
    assert await deployment.dead_letters() == [("", "an entry without a job id")]


async def test_work_of_an_amount_that_cannot_be_is_not_counted(deployment: Deployment, pool: RedisPool) -> None:
    async with begun(pool, make_render_job("a", steps=7)):
        for cost in ("nan", "inf", "-inf", "-5", "1e300", RANDOM):
            await deployment.client.xadd(deployment.keys.jobs("normal"), {"job": "unknown", "cost": cost})
        assert (await deployment.producer("onlooker").census()).cost == 7
    await deployment.worker()


@pytest.mark.parametrize(
    "change",
    [
        {"server": RANDOM},
        {"priority": "highest"},
        {"entry": "first"},
        {"tries": "1e400"},
        {"tries": "-1"},
        None,
    ],
)
async def test_what_is_stored_in_the_place_of_a_job_is_given_up_and_the_job_is_submitted_again(
    deployment: Deployment, pool: RedisPool, change: dict[str, str | bytes] | None
) -> None:
    rendering = pool.render(make_render_job("a"))
    await anext(rendering)
    key = deployment.keys.job("a")
    await (
        deployment.client.set(key, RANDOM, keepttl=True)
        if change is None
        else deployment.client.hset(key, mapping=change)
    )
    worker = await deployment.worker()
    assert isinstance([update async for update in rendering][-1], Completed)
    assert await deployment.dead_letters() == [("a", "what is stored of it is no job")]
    assert not worker.task.done()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "envelope is not msgpack"),
        (RANDOM, "envelope"),
        (RANDOM * 10_000, "envelope has 2560000 bytes"),
        (msgpack.packb([2, "job", {}]), "envelope version must be 1, not 2"),
        (msgpack.packb([1, "states", {}]), "envelope kind"),
        (msgpack.packb([1, "job", {"id": "a"}]), "is missing"),
        (encode_job(make_render_job("b"), DIGEST), "the body is another job's"),
        (encode_job(make_render_job("a", steps=MAX_STEPS + 1), DIGEST), "steps must be"),
        (encode_job(make_render_job("a", width=8 * 8, height=8 * 64), DIGEST), "at most 4096"),
        (encode_job(make_render_job("a", states=random_states(1)[:2]), DIGEST), "states"),
    ],
)
async def test_a_body_that_is_no_job_for_this_worker_is_refused_with_a_reason(
    deployment: Deployment,
    worker: RunningWorker,
    pool: RedisPool,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    reason: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(submission, "encode_job", lambda *_: body)
        with pytest.raises(RenderError, match=reason) as error:
            await rendered(pool, make_render_job("a"))
    assert error.value.code == "invalid_job"
    [(id, told)] = await deployment.dead_letters()
    assert id == "a"
    assert reason in told


@pytest.mark.parametrize("found", [None, b"", RANDOM, encode_job(make_render_job("a"), DIGEST)])
async def test_shared_states_that_are_missing_or_wrong_are_shared_again(
    deployment: Deployment, pool: RedisPool, found: bytes | None
) -> None:
    rendering = pool.render(make_render_job("a"))
    await anext(rendering)
    key = deployment.keys.states(DIGEST)
    await (deployment.client.delete(key) if found is None else deployment.client.set(key, found, ex=60))
    await deployment.worker()
    assert isinstance([update async for update in rendering][-1], Completed)
    assert await deployment.dead_letters() == []


async def test_other_states_in_the_place_of_shared_ones_are_refused(deployment: Deployment, pool: RedisPool) -> None:
    expected = make_render_job("a", negative_states=EMPTY_PROMPT)
    rendering = pool.render(make_render_job("a"))
    await anext(rendering)
    stranger = deployment.producer("stranger")
    await stranger.share_states(DIGEST, encode_states(random_states(5)))
    await deployment.worker()
    [*_, last] = [update async for update in rendering]
    assert isinstance(last, Completed)
    assert (last.image.pixels == (await picture(pool, expected)).pixels).all()


@pytest.mark.parametrize(
    "message", [None, b"", RANDOM, encode_message(Message("nobody", Stored())), encode_message(Message("a", Stored()))]
)
async def test_messages_that_mean_nothing_are_passed_over(
    deployment: Deployment, pool: RedisPool, message: bytes | None
) -> None:
    rendering = pool.render(make_render_job("a"))
    await anext(rendering)
    await eventually(lambda: _has_replies(deployment))
    [replies] = await deployment.names("replies:")
    fields = {"m": message} if message is not None else {RANDOM: RANDOM}
    await deployment.client.xadd(deployment.keys.prefix + replies, fields)
    await deployment.worker()
    assert isinstance([update async for update in rendering][-1], Completed)


async def _has_replies(deployment: Deployment) -> bool:
    return bool(await deployment.names("replies:"))


@pytest.mark.parametrize("outcome", [b"", RANDOM, b"\x93\x01\xa5image\x80"])
async def test_an_outcome_that_cannot_be_read_fails_its_job(
    deployment: Deployment, pool: RedisPool, outcome: bytes
) -> None:
    rendering = pool.render(make_render_job("a"))
    await anext(rendering)
    odd = deployment.consumer("odd")
    await odd.take(1, reclaim=False)
    await odd.finish("a", outcome, encode_message(Message("a", Stored())))
    assert await failure(rendering) == "render_failed"
    await deployment.worker()


async def test_announcements_that_cannot_be_read_are_no_workers(
    deployment: Deployment, worker: RunningWorker, pool: RedisPool
) -> None:
    for announcement in (b"", RANDOM):
        await deployment.consumer(uuid.uuid4().hex).renew([], announcement)
    assert (await pool.load()).workers_alive == 1


async def test_noise_on_the_channel_of_cancellations_is_passed_over(
    deployment: Deployment, worker: RunningWorker, pool: RedisPool
) -> None:
    channel = deployment.keys.cancellations(worker.id)
    for noise in (b"", RANDOM, b"unknown"):
        await eventually(lambda noise=noise: _reaches_somebody(deployment, channel, noise))
    async with begun(pool, make_render_job("a", steps=900)):
        await eventually(lambda: worker.worker.stats().running == 1)
    await eventually(lambda: worker.worker.stats().running == 0)


async def _reaches_somebody(deployment: Deployment, channel: str, noise: bytes) -> bool:
    return bool(await deployment.client.publish(channel, noise))
