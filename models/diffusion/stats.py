"""What the engine counts."""

import statistics
import threading
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from models.diffusion.job import Completed, Outcome
from models.diffusion.step_times import StepTimes

_WINDOW = 64
_WINDOW_OF_A_BATCH = 16


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. Counts are since the start; times in seconds are medians of the latest, None before the first.

    Attributes:
        waiting: jobs without a place in a batch, as of the last step.
        running: jobs with one.
        steps: UNet calls, each one step of all jobs in its batch.
        job_steps: denoising steps summed over jobs; ``job_steps / steps`` is the mean batch size.
        busy_s: time spent in steps.
        last_batch: jobs of the last step.
        completed: jobs that ended with a picture.
        failed: jobs that ended without one.
        cancelled: jobs that were given up.
        previews: early views that were decoded.
        previews_left_out: early views that would have taken too much of the time for denoising.
        step_s: one step.
        step_times: one step by the number of its jobs. Pictures of other sizes than the default count with their time
            divided by their area relative to it, so that these times stand for what is drawn, whatever that is.
        job_steps_per_s: throughput while there is work.
        queue_s: from arrival to admission.
        finish_s: from the last step to the encoded picture.
        latency_s: from arrival to the encoded picture.
    """

    waiting: int
    running: int
    steps: int
    job_steps: int
    busy_s: float
    last_batch: int
    completed: int
    failed: int
    cancelled: int
    previews: int
    previews_left_out: int
    step_s: float | None
    step_times: StepTimes | None
    job_steps_per_s: float | None
    queue_s: float | None
    finish_s: float | None
    latency_s: float | None


class EngineCounters:
    """Collects from all threads of the engine; each method is one short critical section."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = self._running = 0
        self._steps = self._job_steps = self._last_batch = 0
        self._busy_s = 0.0
        self._completed = self._failed = self._cancelled = 0
        self._previews = self._previews_left_out = 0
        self._recent_steps: deque[tuple[int, float]] = deque(maxlen=_WINDOW)
        self._of_default_size: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW_OF_A_BATCH))
        self._queue_s: deque[float] = deque(maxlen=_WINDOW)
        self._finish_s: deque[float] = deque(maxlen=_WINDOW)
        self._latency_s: deque[float] = deque(maxlen=_WINDOW)

    def admitted(self, queue_s: float) -> None:
        """A job got its place."""
        with self._lock:
            self._queue_s.append(queue_s)

    @property
    def busy_s(self) -> float:
        """Seconds spent in steps."""
        return self._busy_s

    def stepped(self, batch: int, seconds: float, relative_area: float = 1.0) -> None:
        """A step of ``batch`` jobs was taken, of pictures whose area is so many times that of the default size."""
        with self._lock:
            self._steps += 1
            self._job_steps += batch
            self._busy_s += seconds
            self._last_batch = batch
            self._recent_steps.append((batch, seconds))
            self._of_default_size[batch].append(seconds / relative_area)

    def occupied(self, waiting: int, running: int) -> None:
        """How many jobs wait and run now."""
        with self._lock:
            self._waiting, self._running = waiting, running

    def finished(self, seconds: float) -> None:
        """A picture was decoded and encoded."""
        with self._lock:
            self._finish_s.append(seconds)

    def previewed(self, decoded: int, left_out: int) -> None:
        """So many early views were due."""
        with self._lock:
            self._previews += decoded
            self._previews_left_out += left_out

    def ended(self, outcome: Outcome, latency_s: float) -> None:
        """A job ended."""
        with self._lock:
            if isinstance(outcome, Completed):
                self._completed += 1
                self._latency_s.append(latency_s)
            elif outcome.code == "cancelled":
                self._cancelled += 1
            else:
                self._failed += 1

    def snapshot(self) -> EngineStats:
        """All of it, as of one moment."""
        with self._lock:
            recent_jobs = sum(batch for batch, _ in self._recent_steps)
            recent_s = sum(seconds for _, seconds in self._recent_steps)
            return EngineStats(
                waiting=self._waiting,
                running=self._running,
                steps=self._steps,
                job_steps=self._job_steps,
                busy_s=self._busy_s,
                last_batch=self._last_batch,
                completed=self._completed,
                failed=self._failed,
                cancelled=self._cancelled,
                previews=self._previews,
                previews_left_out=self._previews_left_out,
                step_s=_median(seconds for _, seconds in self._recent_steps),
                step_times=self._step_times(),
                job_steps_per_s=recent_jobs / recent_s if recent_s else None,
                queue_s=_median(self._queue_s),
                finish_s=_median(self._finish_s),
                latency_s=_median(self._latency_s),
            )

    def _step_times(self) -> StepTimes | None:
        measured = ((batch, statistics.median(seconds)) for batch, seconds in sorted(self._of_default_size.items()))
        return StepTimes(tuple(measured)) if self._of_default_size else None


def _median(seconds: Iterable[float]) -> float | None:
    """A median, so that a slow first call does not show for long."""
    values = list(seconds)
    return statistics.median(values) if values else None
