"""Limits of callers: what is counted, when there is room again, and what happens while Redis is away."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.guard.caller import ANONYMOUS, Caller, CallerLimits
from server.guard.rate_limits import Allowance, RateLimitError, RateLimits, open_rate_limits
from server.guard.windows import RETRY_AFTER_S, Windows
from server.observe.metrics import RATE_LIMIT_FALLBACKS
from server.pool.connection import connect
from server.settings import RedisSettings
from tests.redis_server import RedisServer


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis(redis_server: RedisServer, namespace: str) -> RedisSettings:
    return RedisSettings.model_validate({"url": redis_server.url, "namespace": namespace})


@pytest_asyncio.fixture
async def limits(clock: Clock) -> AsyncIterator[RateLimits]:
    """Counted in this process."""
    limits = RateLimits(Windows(clock=clock))
    yield limits
    await limits.close()


@pytest_asyncio.fixture(params=["memory", "redis"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[RateLimits]:
    """Counted in this process, or in Redis."""
    shared = request.param == "redis"
    limits = open_rate_limits(request.getfixturevalue("redis") if shared else RedisSettings())
    yield limits
    await limits.close()


def caller(id: str = "alice", **limits: int) -> Caller:
    return Caller(id, limits=CallerLimits(**limits))


def left(allowances: tuple[Allowance, ...]) -> dict[str, int]:
    return {allowance.resource: allowance.remaining for allowance in allowances}


async def charged(limits: RateLimits) -> None:
    """Return when what was charged is counted."""
    await asyncio.gather(*limits._charges)


async def test_requests_are_counted_until_there_are_none_left(either: RateLimits) -> None:
    alice = caller(requests=2)
    assert left(await either.count_request(alice)) == {"requests": 1}
    assert left(await either.count_request(alice)) == {"requests": 0}
    with pytest.raises(RateLimitError, match="2 requests a minute") as refused:
        await either.count_request(alice)

    [allowance] = refused.value.allowances
    assert (allowance.limit, allowance.remaining) == (2, 0)
    assert 0 < allowance.reset_s <= 60
    assert 1 <= refused.value.retry_after_s <= 60


async def test_callers_are_counted_apart(either: RateLimits) -> None:
    await either.count_request(caller("alice", requests=1))

    assert left(await either.count_request(caller("bob", requests=1))) == {"requests": 0}


async def test_what_an_answer_took_is_counted_though_it_goes_over_the_limit(either: RateLimits) -> None:
    alice = caller(tokens=100, images=3)
    assert left(await either.count_request(alice)) == {"tokens": 100, "images": 3}
    either.charge(alice, tokens=60, images=1)
    await charged(either)
    assert left(await either.count_request(alice)) == {"tokens": 40, "images": 2}
    either.charge(alice, tokens=500, images=2)
    await charged(either)

    with pytest.raises(RateLimitError, match="100 tokens a minute"):
        await either.count_request(alice)
    with pytest.raises(RateLimitError, match="3 images a minute"):
        await either.require_images(alice)


async def test_who_has_no_pictures_left_may_still_ask_for_text(either: RateLimits) -> None:
    alice = caller(images=1)
    either.charge(alice, tokens=10, images=1)
    await charged(either)

    assert left(await either.count_request(alice)) == {"images": 0}


async def test_who_has_no_limits_is_not_counted(either: RateLimits) -> None:
    either.charge(ANONYMOUS, tokens=10**9, images=10**6)
    await either.require_images(ANONYMOUS)

    assert await either.count_request(ANONYMOUS) == ()


async def test_a_minute_later_all_of_it_is_there_again(limits: RateLimits, clock: Clock) -> None:
    alice = caller(requests=1, tokens=10)
    await limits.count_request(alice)
    clock.now += 20
    limits.charge(alice, tokens=15, images=0)
    await charged(limits)
    clock.now += 39.5
    with pytest.raises(RateLimitError, match="tokens") as refused:  # whose minute began later
        await limits.count_request(alice)
    assert [round(left.reset_s, 1) for left in refused.value.allowances] == [0.5, 20.5]
    assert refused.value.retry_after_s == 21
    clock.now += 20.5

    assert left(await limits.count_request(alice)) == {"requests": 0, "tokens": 10}


async def test_requests_that_were_refused_do_not_make_the_wait_longer(limits: RateLimits, clock: Clock) -> None:
    alice = caller(requests=1)
    await limits.count_request(alice)
    for second in range(59):
        clock.now += 1
        with pytest.raises(RateLimitError) as refused:
            await limits.count_request(alice)
        assert refused.value.retry_after_s == 59 - second
    clock.now += 1

    await limits.count_request(alice)


async def test_a_wall_clock_that_is_set_back_locks_nobody_out(
    limits: RateLimits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = caller(requests=1)
    await limits.count_request(alice)
    monkeypatch.setattr("time.time", lambda: 0.0)
    clock.now += 60

    assert left(await limits.count_request(alice)) == {"requests": 0}


async def test_answers_at_one_time_are_limited_until_one_ends(limits: RateLimits) -> None:
    alice, bob = caller("alice", streams=2), caller("bob", streams=2)
    limits.enter(alice)
    limits.enter(alice)
    limits.enter(bob)
    with pytest.raises(RateLimitError, match="2 answers of yours") as refused:
        limits.enter(alice)
    assert refused.value.retry_after_s > 0
    limits.leave(alice)

    limits.enter(alice)


async def test_headers_are_named_as_openai_names_them() -> None:
    assert Allowance("images", 20, 3, 41.25).headers() == {
        "x-ratelimit-limit-images": "20",
        "x-ratelimit-remaining-images": "3",
        "x-ratelimit-reset-images": "41.250s",
    }


async def test_servers_that_share_a_redis_count_together(redis: RedisSettings) -> None:
    one, other = open_rate_limits(redis), open_rate_limits(redis)
    alice = caller(requests=2, tokens=50)
    await one.count_request(alice)
    one.charge(alice, tokens=20, images=0)
    await charged(one)

    assert left(await other.count_request(alice)) == {"requests": 0, "tokens": 30}
    with pytest.raises(RateLimitError):
        await one.count_request(alice)
    await one.close()
    await other.close()


async def test_what_was_charged_is_counted_before_a_server_stops(redis: RedisSettings) -> None:
    stopping, other = open_rate_limits(redis), open_rate_limits(redis)
    alice = caller(tokens=50)
    stopping.charge(alice, tokens=50, images=0)
    await stopping.close()

    with pytest.raises(RateLimitError):
        await other.count_request(alice)
    await other.close()


async def test_nothing_that_is_counted_in_redis_stays_there(redis: RedisSettings, redis_server: RedisServer) -> None:
    limits = open_rate_limits(redis)
    alice = caller(requests=5, tokens=50, images=5)
    await limits.count_request(alice)
    limits.charge(alice, tokens=20, images=1)
    await limits.close()
    client = connect(redis_server.url)
    keys = [key async for key in client.scan_iter(f"{redis.namespace}:*")]
    lives = [await client.ttl(key) for key in keys]
    await client.aclose()

    assert len(keys) == 3
    assert all(0 < life <= 60 for life in lives)


async def test_while_redis_is_away_a_server_counts_by_itself_and_says_so(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = RATE_LIMIT_FALLBACKS._value.get()
    with RedisServer() as server:
        client = connect(server.url, timeout_s=0.5)
        limits = RateLimits(Windows(client, "test", clock))
        alice = caller(requests=3)
        assert left(await limits.count_request(alice)) == {"requests": 2}
        await asyncio.to_thread(server.stop)
        assert left(await limits.count_request(alice)) == {"requests": 2}
        assert left(await limits.count_request(alice)) == {"requests": 1}
        await limits.count_request(alice)
        with pytest.raises(RateLimitError):
            await limits.count_request(alice)
        # Redis is not asked again and again.
        assert RATE_LIMIT_FALLBACKS._value.get() == before + 1
        await asyncio.to_thread(server.start)
        clock.now += RETRY_AFTER_S
        assert left(await limits.count_request(alice)) == {"requests": 2}  # it has come back empty
        await limits.close()

    messages = [record.getMessage() for record in caplog.records if record.name == "server.guard.windows"]
    assert ["by itself" in message for message in messages] == [True, False]


async def test_a_redis_that_does_not_answer_holds_up_one_request_and_no_other(clock: Clock) -> None:
    with RedisServer() as server:
        limits = RateLimits(Windows(connect(server.url, timeout_s=0.05), "test", clock))
        alice = caller(requests=3)
        await limits.count_request(alice)
        await asyncio.to_thread(server.freeze)
        before = RATE_LIMIT_FALLBACKS._value.get()
        try:
            assert left(await limits.count_request(alice)) == {"requests": 2}
            assert left(await limits.count_request(alice)) == {"requests": 1}
        finally:
            await asyncio.to_thread(server.thaw)
        assert RATE_LIMIT_FALLBACKS._value.get() == before + 1
        await limits.close()
