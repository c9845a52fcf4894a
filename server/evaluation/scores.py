"""What is counted: right ones of so many, with an interval, against a bar."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["met", "missed"]

Z95 = 1.959964  # the standard normal's 97.5 % quantile


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of how many were right."""

    right: int = 0
    of: int = 0

    @classmethod
    def one(cls, right: bool) -> "Tally":
        """The tally of one case."""
        return cls(int(right), 1)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.right + other.right, self.of + other.of)

    @property
    def rate(self) -> float | None:
        """The share that was right, 0…1; None of nothing."""
        return self.right / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate (Wilson 1927); 0 to 1 of nothing."""
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.right / self.of
        center = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        margin = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
        return max(0.0, center - margin), min(1.0, center + margin)


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """Stands for a number that there is not, and says why."""

    reason: str


Marks = Mapping[str, Tally]
"""Tallies by the name of their measure."""


def total(marks: Iterable[Marks]) -> dict[str, Tally]:
    """The sums, measure by measure."""
    sums: dict[str, Tally] = {}
    for mark in marks:
        for name, tally in mark.items():
            sums[name] = sums.get(name, Tally()) + tally
    return sums


@dataclass(frozen=True, slots=True)
class Bar:
    """What a rate must reach, or with ``below`` stay under. ``above`` asks for more than the goal itself."""

    goal: float
    sense: Literal["at least", "above", "below"] = "at least"

    def verdict(self, tally: Tally) -> Verdict:
        """Whether it is met; not by nothing."""
        if tally.rate is None:
            return "missed"
        match self.sense:
            case "at least":
                met = tally.rate >= self.goal
            case "above":
                met = tally.rate > self.goal
            case "below":
                met = tally.rate < self.goal
        return "met" if met else "missed"

    def __str__(self) -> str:
        return f"{SIGNS[self.sense]} {self.goal:.0%}"


SIGNS = {"at least": "≥", "above": ">", "below": "<"}
