"""Callers who come whether or not those before them have been served, at a rate that is 80 % of what was measured."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import httpx

from load_tests.soak.caller import Caller, GoneError, RefusedError
from load_tests.soak.visits import WEIGHTS, Visit, slow_reader

VISIT_LIMIT_S = 180.0
"""A visit that takes longer hangs. The slowest is two answers, each of which may wait for half a minute in line."""
CLOSED_LOOP = 8


@dataclass
class Record:
    """What came of all visits.

    Attributes:
        visits: by their kind and how they ended: ``"served"``, ``"refused"``, ``"late"``, ``"fault"``. Who is late has
            come back to what is not kept any more.
        statuses: of the latest response of each visit.
        faults: what the service did that it must not do.
    """

    visits: dict[str, Counter[str]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, visit: Visit, caller: Caller, outcome: str) -> None:
        """Note one visit."""
        self.visits.setdefault(visit.__name__, Counter())[outcome] += 1
        self.statuses[caller.status] += 1

    @property
    def total(self) -> int:
        """Visits so far."""
        return sum(counted.total() for counted in self.visits.values())

    @property
    def refused(self) -> int:
        """Visits that ended because the service had too much to do."""
        return sum(counted["refused"] for counted in self.visits.values())


class Traffic:
    """Visits of one service, all decided by one seed.

    Args:
        client: to ask the service with.
        seed: of the kinds of visits, of their times, and of what each does.
        kept_s: how long the service keeps what it stores.

    Attributes:
        record: what came of the visits.
    """

    def __init__(self, client: httpx.AsyncClient, seed: int, kept_s: float) -> None:
        self.record = Record()
        self._kept_s = kept_s
        self._client = client
        self._seed = seed
        self._clock = random.Random(f"{seed}-times")
        self._callers = self._come(tuple(WEIGHTS), f"{seed}")
        self._under_way: set[asyncio.Task[None]] = set()

    async def capacity(self, seconds: float) -> float:
        """Visits a second that the service answers when ``CLOSED_LOOP`` callers come one after the other.

        Slow readers are left out: they keep themselves waiting, not the service.
        """
        callers = self._come(tuple(visit for visit in WEIGHTS if visit is not slow_reader), f"{self._seed}-capacity")
        loop = asyncio.get_running_loop()
        begin = loop.time()
        before = self.record.total

        async def keep_coming() -> None:
            while loop.time() < begin + seconds:
                await self._visit(*next(callers))

        async with asyncio.TaskGroup() as coming:
            for _ in range(CLOSED_LOOP):
                coming.create_task(keep_coming())
        return (self.record.total - before) / (loop.time() - begin)

    async def flow(self, visits_per_s: float, seconds: float) -> None:
        """Let callers come for so long, and return when the last of them has gone.

        They come by a Poisson process. A late one is made up for: the mean rate holds.
        """
        loop = asyncio.get_running_loop()
        due, end = loop.time(), loop.time() + seconds
        while (due := due + self._clock.expovariate(visits_per_s)) < end:
            await asyncio.sleep(due - loop.time())
            visiting = asyncio.create_task(self._visit(*next(self._callers)))
            self._under_way.add(visiting)
            visiting.add_done_callback(self._under_way.discard)
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _come(self, kinds: Sequence[Visit], seed: str) -> Iterator[tuple[Visit, Caller]]:
        dice = random.Random(seed)
        weights = [WEIGHTS[kind] for kind in kinds]
        for number in itertools.count():
            (kind,) = dice.choices(kinds, weights)
            yield kind, Caller(self._client, random.Random(f"{seed}-{number}"))

    async def _visit(self, visit: Visit, caller: Caller) -> None:
        outcome, begin = "served", perf_counter()
        try:
            async with asyncio.timeout(VISIT_LIMIT_S):
                await visit(caller)
        except RefusedError:
            outcome = "refused"
        except Exception as error:
            outcome = "fault"
            if isinstance(error, GoneError) and perf_counter() - begin > self._kept_s:
                outcome = "late"
            else:
                self.record.faults.append(f"{visit.__name__}: {type(error).__name__}: {error}")
        self.record.add(visit, caller, outcome)
