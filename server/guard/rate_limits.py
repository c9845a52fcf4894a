"""What callers may do in a minute, and at one time.

A request is counted when it comes. Tokens and pictures are counted when an answer has ended, for then it is known what
it took, whether it was finished or broken off: nothing is estimated, and who leaves ``max_tokens`` out pays no more for
it. A caller who has something left may begin, and one who has nothing waits until his minute is over. So he can go over
by what his running answers make, which his limit of ``streams`` bounds.

Who has no pictures left may still ask for text.
"""

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from limits import RateLimitItem, RateLimitItemPerMinute

from server.guard.caller import Caller
from server.guard.windows import Windows
from server.observe import metrics
from server.pool.connection import connect
from server.settings import RedisSettings
from server.tasks import end

STREAM_RETRY_S = 1  # when an answer ends nobody knows
CLOSE_LIMIT_S = 5.0  # for what has yet to be counted
ANSWER_LIMIT_S = 0.5  # of Redis: a request waits for it

Resource = Literal["requests", "tokens", "images"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a caller stands with one of his limits.

    Attributes:
        resource: what is limited.
        limit: in a minute.
        remaining: of it.
        reset_s: seconds until all of it is there again.
    """

    resource: Resource
    limit: int
    remaining: int
    reset_s: float

    def headers(self) -> dict[str, str]:
        """The same as OpenAI tells it."""
        return {
            f"x-ratelimit-limit-{self.resource}": str(self.limit),
            f"x-ratelimit-remaining-{self.resource}": str(self.remaining),
            f"x-ratelimit-reset-{self.resource}": f"{self.reset_s:.3f}s",
        }


class RateLimitError(Exception):
    """A caller has reached one of his limits.

    Attributes:
        retry_after_s: when he may come again, in whole seconds.
        allowances: how he stands with his limits.
    """

    def __init__(self, message: str, retry_after_s: int, allowances: tuple[Allowance, ...] = ()) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.allowances = allowances


class RateLimits:
    """Holds callers to their limits.

    Args:
        windows: count.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._streams: Counter[str] = Counter()
        self._charges: set[asyncio.Task[bool]] = set()

    async def count_request(self, caller: Caller) -> tuple[Allowance, ...]:
        """Count a request for an answer, before it is read. Returns how its caller then stands.

        Raises:
            RateLimitError: he has made too many, or has no tokens left.
        """
        limit = caller.limits.requests
        kept = limit is None or await self._windows.hit(item("requests", limit), caller.id)
        allowances = await self._allowances(caller)
        needed = ("tokens",) if kept else ("tokens", "requests")
        exhausted = [left for left in allowances if left.resource in needed and not left.remaining]
        if exhausted:
            raise reached(max(exhausted, key=lambda left: left.reset_s), allowances)
        return allowances

    async def require_images(self, caller: Caller) -> None:
        """Return if a caller may have pictures drawn.

        Raises:
            RateLimitError: he has none left.
        """
        if (limit := caller.limits.images) is not None:
            allowance = await self._allowance(caller, "images", limit)
            if not allowance.remaining:
                raise reached(allowance, (allowance,))

    def enter(self, caller: Caller) -> None:
        """An answer begins, until :meth:`leave`.

        Raises:
            RateLimitError: as many as its caller may have are being made for him in this process.
        """
        limit = caller.limits.streams
        if limit is not None and self._streams[caller.id] >= limit:
            metrics.RATE_LIMITED.labels("streams").inc()
            raise RateLimitError(f"{limit} answers of yours are being made, which is your limit", STREAM_RETRY_S)
        self._streams[caller.id] += 1

    def leave(self, caller: Caller) -> None:
        """It has ended."""
        self._streams[caller.id] -= 1
        if not self._streams[caller.id]:
            del self._streams[caller.id]

    def charge(self, caller: Caller, tokens: int, images: int) -> None:
        """Count what an answer took. Returns before it is counted."""
        if caller.limits.tokens is not None and tokens:
            self._charge(item("tokens", caller.limits.tokens), caller, tokens)
        if caller.limits.images is not None and images:
            self._charge(item("images", caller.limits.images), caller, images)

    async def close(self) -> None:
        """Return when all that was charged is counted, or cannot be."""
        if self._charges:
            await asyncio.wait(self._charges, timeout=CLOSE_LIMIT_S)
        await end(self._charges)
        await self._windows.close()

    def _charge(self, limited: RateLimitItem, caller: Caller, amount: int) -> None:
        charge = asyncio.create_task(self._windows.hit(limited, caller.id, amount), name=f"charge of {caller.id}")
        self._charges.add(charge)
        charge.add_done_callback(self._charges.discard)

    async def _allowances(self, caller: Caller) -> tuple[Allowance, ...]:
        limits: dict[Resource, int | None] = {
            "requests": caller.limits.requests,
            "tokens": caller.limits.tokens,
            "images": caller.limits.images,
        }
        asked = [self._allowance(caller, resource, limit) for resource, limit in limits.items() if limit is not None]
        return tuple(await asyncio.gather(*asked))

    async def _allowance(self, caller: Caller, resource: Resource, limit: int) -> Allowance:
        stats = await self._windows.stats(item(resource, limit), caller.id)
        return Allowance(resource, limit, stats.remaining, max(0.0, stats.reset_time - time.time()))


def open_rate_limits(redis: RedisSettings) -> RateLimits:
    """Limits that all servers count together, if they have a Redis in common. It need not be there yet.

    Raises:
        ValueError: its URL is wrong.
    """
    if redis.url is None:
        return RateLimits(Windows())
    client = connect(redis.url.get_secret_value(), name="dreamserve-limits", timeout_s=ANSWER_LIMIT_S)
    return RateLimits(Windows(client, redis.namespace))


def item(resource: Resource, limit: int) -> RateLimitItem:
    """What ``limits`` calls a limit. A limit that is changed is counted anew."""
    return RateLimitItemPerMinute(limit, namespace=resource)


def reached(allowance: Allowance, allowances: tuple[Allowance, ...]) -> RateLimitError:
    """The refusal of a caller who has nothing left of one of his allowances."""
    metrics.RATE_LIMITED.labels(allowance.resource).inc()
    retry_after_s = max(1, math.ceil(allowance.reset_s))
    limit = f"{allowance.limit} {allowance.resource} a minute"
    message = f"your limit of {limit} is reached; in {retry_after_s} s it begins anew"
    return RateLimitError(message, retry_after_s, allowances)
