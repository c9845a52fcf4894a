"""How long a denoising step takes, by the number of jobs that share it."""

import math
from dataclasses import dataclass
from itertools import pairwise

_ENOUGH_OF_THE_BEST = 0.95


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one step over pictures of a checkpoint's default size, as measured at some batch sizes.

    Attributes:
        measured: pairs of a batch size in jobs and seconds, the batch sizes rising; at least one.

    Raises:
        ValueError: there is no pair, a batch size is below 1 or does not rise, or a time is not positive and finite.
    """

    measured: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.measured:
            raise ValueError("step times need at least one measurement")
        batches = [batch for batch, _ in self.measured]
        if batches[0] < 1 or any(smaller >= bigger for smaller, bigger in pairwise(batches)):
            raise ValueError("the batch sizes of step times must rise from 1 or more")
        if not all(math.isfinite(seconds) and seconds > 0 for _, seconds in self.measured):
            raise ValueError("step times must be positive and finite")

    def seconds(self, batch: int) -> float:
        """One step of so many jobs: linear between measurements, in proportion beyond the biggest.

        Below the smallest it is taken for as long as that one.
        """
        smallest, at_smallest = self.measured[0]
        if batch <= smallest:
            return at_smallest
        for (lower, at_lower), (upper, at_upper) in pairwise(self.measured):
            if batch <= upper:
                return at_lower + (at_upper - at_lower) * (batch - lower) / (upper - lower)
        biggest, at_biggest = self.measured[-1]
        return at_biggest * batch / biggest

    def updated(self, newer: "StepTimes | None") -> "StepTimes":
        """These times, replaced at the batch sizes that were measured again and with those that are new."""
        measured = {**dict(self.measured), **dict(newer.measured if newer else ())}
        return StepTimes(tuple(sorted(measured.items())))

    def job_steps_per_s(self, batch: int) -> float:
        """Throughput in steps times jobs."""
        return batch / self.seconds(batch)

    def best_batch(self) -> int:
        """The smallest measured batch with 95 % of the best throughput: a bigger one makes each job wait for little."""
        best = max(self.job_steps_per_s(batch) for batch, _ in self.measured)
        return next(batch for batch, _ in self.measured if self.job_steps_per_s(batch) >= _ENOUGH_OF_THE_BEST * best)
