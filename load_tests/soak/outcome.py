"""How long a soak is, and what it found."""

from collections.abc import Mapping
from dataclasses import dataclass

from load_tests.service.holdings import Holdings
from load_tests.soak.traffic import Record


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a soak is.

    Attributes:
        seconds: of traffic.
        every_s: of traffic before each rest.
        capacity_s: of traffic as fast as it can be answered, before all else.
        rest_s: how long the service may take to come to rest.
        kept_s: how long the service keeps what it stores.
        seed: decides the traffic.
    """

    seconds: float
    every_s: float
    capacity_s: float
    rest_s: float
    kept_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the service held at rest.

    Attributes:
        after_s: seconds of traffic before it; 0 is after the measurement of capacity.
        visits: before it, with those of that measurement.
        holdings: what it held.
        leaks: of that, what it should not.
    """

    after_s: float
    visits: int
    holdings: Holdings
    leaks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak found.

    Attributes:
        capacity: visits a second.
        record: of all visits.
        checkpoints: the first is what the others are compared with, but for memory.
    """

    capacity: float
    record: Record
    checkpoints: tuple[Checkpoint, ...]

    @property
    def leaks(self) -> dict[str, str]:
        """What had leaked at any checkpoint, as of the latest."""
        return {name: what for checkpoint in self.checkpoints for name, what in checkpoint.leaks.items()}

    @property
    def growth(self) -> dict[str, float]:
        """Memory of each process at the end, divided by what it was at the first rest after traffic.

        Once all of it, and once without pages of files: those come back when the machine is short of memory, and would
        hide what grows beside them.
        """
        settled, last = self.checkpoints[1].holdings.processes, self.checkpoints[-1].holdings.processes
        ratios = {}
        for name in settled.keys() & last.keys():
            before, now = settled[name], last[name]
            ratios[f"rss_{name}"] = now.resident / before.resident
            if before.anonymous and now.anonymous:
                ratios[f"anonymous_{name}"] = now.anonymous / before.anonymous
        return dict(sorted(ratios.items()))
