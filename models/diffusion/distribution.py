"""How often which values were seen, in so little memory that all of them can be kept for the life of a process."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as of one moment.

    Attributes:
        bounds: upper ones of its buckets, rising, each included; the last bucket has none.
        counts: of values in each bucket, one more than there are bounds.
        sum: of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def cumulative(self) -> tuple[int, ...]:
        """Values up to each bound, and of all."""
        return tuple(accumulate(self.counts))


@dataclass(slots=True)
class Tally:
    """Counts values into buckets. Its owner sees to it that one thread at a time does.

    Args:
        bounds: see :class:`Distribution`.
    """

    bounds: Sequence[float]
    _counts: list[int] = field(init=False)
    _sum: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> Distribution:
        """What was counted so far."""
        return Distribution(tuple(self.bounds), tuple(self._counts), self._sum)
