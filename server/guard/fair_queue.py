"""Weighted fair queueing: whose turn it is, however much each of them has waiting.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Every caller has a line of his own, served in order of arrival.
The queue keeps a virtual time. What stands first in a caller's line gets a start tag: the virtual time at which the
line began, or where what was served of that caller before ends, whichever is later. Least start tag goes first, sets
the virtual time, and ends at its start tag plus its cost divided by the caller's weight. So callers who always have
something waiting are served in proportion to their weights, and one who comes rarely is served at once.

Costs are estimates, and :meth:`FairQueue.charge` corrects them when the truth is known, as Sheng et al. (2024) do with
the tokens of language models: who asks for little and takes much waits longer the next time.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class _Entry(Generic[Item]):
    """Something that waits.

    Attributes:
        item: what waits.
        cost: expected, in any unit that all entries share.
        arrival: number of the entry, rising.
    """

    item: Item
    cost: float
    arrival: int


@dataclass(slots=True)
class _Line(Generic[Item]):
    """The line of one caller.

    Attributes:
        weight: of the caller.
        start: start tag of what stands first.
        entries: what waits, in order of arrival.
    """

    weight: float
    start: float
    entries: deque[_Entry[Item]] = field(default_factory=deque)


class FairQueue(Generic[Item]):
    """What waits, in the order in which it should be served. Not thread-safe, and without a clock."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Item]] = {}
        self._virtual_time = 0.0
        self._arrivals = 0

    def __len__(self) -> int:
        return sum(len(line.entries) for line in self._lines.values())

    def __iter__(self) -> Iterator[Item]:
        """All that waits, in no order that matters."""
        return (entry.item for line in self._lines.values() for entry in line.entries)

    def push(self, item: Item, caller: str, weight: float, cost: float) -> None:
        """Add an item at the end of its caller's line.

        Args:
            item: what waits; equal to no other.
            caller: whose it is.
            weight: his share, relative to the others'; above 0.
            cost: what serving it takes, above 0.
        """
        line = self._lines.setdefault(caller, _Line(weight, self._virtual_time))
        line.weight = weight
        if not line.entries:
            line.start = max(line.start, self._virtual_time)
        line.entries.append(_Entry(item, cost, self._arrivals))
        self._arrivals += 1

    def next(self, eligible: Callable[[Item], bool] = lambda _: True) -> Item | None:
        """The first item in order among those that may be served now. It stays in the queue."""
        candidates = [
            (line.start, entry.arrival, entry.item)
            for line in self._lines.values()
            if (entry := next((entry for entry in line.entries if eligible(entry.item)), None))
        ]
        return min(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None

    def serve(self, item: Item) -> None:
        """Take an item out of the queue and count it as served.

        Raises:
            KeyError: it is not there.
        """
        line, entry = self._find(item)
        line.entries.remove(entry)
        self._virtual_time = max(self._virtual_time, line.start)
        line.start += entry.cost / line.weight
        self._forget_the_idle()

    def remove(self, item: Item) -> None:
        """Take an item out of the queue that will not be served.

        Raises:
            KeyError: it is not there.
        """
        line, entry = self._find(item)
        line.entries.remove(entry)
        self._forget_the_idle()

    def charge(self, caller: str, weight: float, cost: float) -> None:
        """Correct what a caller has been served by so much; less than 0 gives something back."""
        line = self._lines.setdefault(caller, _Line(weight, self._virtual_time))
        line.start += cost / weight
        self._forget_the_idle()

    def last_of_longest(self) -> Item | None:
        """The latest item of the caller who has most waiting for his weight: what should go when there is too much."""
        lines = [line for line in self._lines.values() if line.entries]
        if not lines:
            return None
        longest = max(lines, key=lambda line: (len(line.entries) / line.weight, line.entries[-1].arrival))
        return longest.entries[-1].item

    def _find(self, item: Item) -> tuple[_Line[Item], _Entry[Item]]:
        for line in self._lines.values():
            for entry in line.entries:
                if entry.item == item:
                    return line, entry
        raise KeyError(item)

    def _forget_the_idle(self) -> None:
        """Callers who have nothing waiting, and nothing against them either, are as good as new ones."""
        idle = [caller for caller, line in self._lines.items() if not line.entries and line.start <= self._virtual_time]
        for caller in idle:
            del self._lines[caller]
