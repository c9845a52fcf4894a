"""When callers come."""

import random
from collections.abc import Iterator
from typing import Literal

Pattern = Literal["poisson", "bursts"]
BURST = 8
"""Callers who come together."""


def arrivals(pattern: Pattern, rate: float, count: int, seed: int) -> Iterator[float]:
    """Seconds from the beginning at which so many callers come, the first at 0.

    Args:
        pattern: ``"poisson"``: each on his own. ``"bursts"``: :data:`BURST` at a time, the bursts by a Poisson process.
        rate: callers a second, in the mean.
        count: of all of them.
        seed: for the same times again.
    """
    clock = random.Random(seed)
    together = BURST if pattern == "bursts" else 1
    now = 0.0
    for number in range(count):
        if number and number % together == 0:
            now += clock.expovariate(rate / together)
        yield now
