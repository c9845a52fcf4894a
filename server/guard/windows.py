"""Counters that start again every minute: in Redis for all servers that share it, else in this process.

These are the fixed windows of ``limits``: a caller's first request opens one, and a minute later it is gone. Its other
strategies refuse a charge that goes over the limit, and then it is forgotten; but what an answer took is known only
when it was made, and has to be counted whatever is left. A fixed window also says to the moment when there is room
again. What it cannot do is to keep two windows apart that meet: within a minute there can be twice the limit.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from limits import RateLimitItem
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.util import WindowStats
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.observe import metrics

RETRY_AFTER_S = 2.0

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Ask = Callable[[FixedWindowRateLimiter], Awaitable[Answer]]


class Windows:
    """Counts, whatever becomes of Redis.

    While Redis is away each server counts by itself: nobody is refused for it, and nobody is without a limit. So there
    may then be as many times the limit as there are servers.

    Args:
        client: of the Redis, which is closed with the windows; None counts in this process.
        namespace: sets apart what shares a Redis.
        clock: seconds, which never go back.
    """

    def __init__(
        self, client: Redis | None = None, namespace: str = "", clock: Callable[[], float] = monotonic
    ) -> None:
        self._own = FixedWindowRateLimiter(MemoryCounters(clock))
        self._shared: FixedWindowRateLimiter | None = None
        self._client = client
        if client is not None:
            storage = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=f"{namespace}:rate",
                connection_pool=client.connection_pool,  # type: ignore[arg-type]  # its types leave this option out
            )
            self._shared = FixedWindowRateLimiter(storage)
        self._clock = clock
        self._try_again_at: float | None = None

    async def hit(self, item: RateLimitItem, caller_id: str, cost: int = 1) -> bool:
        """Count, also over the limit. Returns whether it was kept."""
        return await self._ask(lambda limiter: limiter.hit(item, caller_id, cost=cost))

    async def stats(self, item: RateLimitItem, caller_id: str) -> WindowStats:
        """What is left, and when all of it is there again in Unix time."""
        return await self._ask(lambda limiter: limiter.get_window_stats(item, caller_id))

    async def close(self) -> None:
        """Leave Redis."""
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, ask: Ask[Answer]) -> Answer:
        if self._shared is not None and (self._try_again_at is None or self._clock() >= self._try_again_at):
            try:
                answer = await ask(self._shared)
            except RedisError as error:
                self._note_away(error)
            else:
                self._note_back()
                return answer
        return await ask(self._own)

    def _note_away(self, error: RedisError) -> None:
        metrics.RATE_LIMIT_FALLBACKS.inc()
        if self._try_again_at is None:
            logger.warning("this server counts for rate limits by itself: %s", error)
        # Not every request is to wait for a Redis that does not answer.
        self._try_again_at = self._clock() + RETRY_AFTER_S

    def _note_back(self) -> None:
        if self._try_again_at is not None:
            logger.info("rate limits are counted in Redis again")
            self._try_again_at = None


class MemoryCounters(Storage):
    """Counters in this process.

    The storage of ``limits`` goes by the wall clock, so that one that is set back would lock callers out, and it leaves
    tasks behind. These go by a clock that never goes back.

    Args:
        clock: in seconds.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}  # with the end of the window

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, end = self._current(key)
        self._counts[key] = count + amount, end if count else self._clock() + expiry
        return count + amount

    async def get(self, key: str) -> int:
        return self._current(key)[0]

    async def get_expiry(self, key: str) -> float:
        return time.time() + self._current(key)[1] - self._clock()

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        count = len(self._counts)
        self._counts.clear()
        return count

    async def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _current(self, key: str) -> tuple[int, float]:
        """The count of a window that is open, and when it ends; 0 and now if none is. There is one key a limit."""
        now = self._clock()
        count, end = self._counts.get(key, (0, now))
        if end > now:
            return count, end
        self._counts.pop(key, None)
        return 0, now
