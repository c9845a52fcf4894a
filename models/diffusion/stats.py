"""What the engine counts."""

import statistics
import threading
from collections import defaultdict, deque
from dataclasses import dataclass

from models.diffusion.distribution import Distribution, Tally
from models.diffusion.job import Completed, Outcome
from models.diffusion.step_times import StepTimes

_WINDOW = 64
_WINDOW_OF_A_BATCH = 16
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_STEP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. Counts and histograms are since the start, times in seconds.

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
        step_times: medians of the latest steps by the number of their jobs, None before the first. Pictures of other
            sizes than the default count with their time divided by their area relative to it, so that these times
            stand for what is drawn, whatever that is.
        finish_s: from the last step to the encoded picture: median of the latest, None before the first.
        batch_histogram: jobs of each step.
        step_histogram: every step.
        queue_histogram: from arrival to admission, of every job.
        finish_histogram: from the last step to the encoded picture, of every job.
        latency_histogram: from arrival to the encoded picture, of every job.
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
    step_times: StepTimes | None
    finish_s: float | None
    batch_histogram: Distribution
    step_histogram: Distribution
    queue_histogram: Distribution
    finish_histogram: Distribution
    latency_histogram: Distribution


class EngineCounters:
    """Collects from all threads of the engine; each method is one short critical section."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = self._running = 0
        self._steps = self._job_steps = self._last_batch = 0
        self._busy_s = 0.0
        self._completed = self._failed = self._cancelled = 0
        self._previews = self._previews_left_out = 0
        self._of_default_size: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW_OF_A_BATCH))
        self._finish_s: deque[float] = deque(maxlen=_WINDOW)
        self._batch_histogram = Tally(_BATCHES)
        self._step_histogram = Tally(_STEP_SECONDS)
        self._queue_histogram = Tally(_SECONDS)
        self._finish_histogram = Tally(_SECONDS)
        self._latency_histogram = Tally(_SECONDS)

    def admitted(self, queue_s: float) -> None:
        """A job got its place."""
        with self._lock:
            self._queue_histogram.add(queue_s)

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
            self._batch_histogram.add(batch)
            self._step_histogram.add(seconds)
            self._of_default_size[batch].append(seconds / relative_area)

    def occupied(self, waiting: int, running: int) -> None:
        """How many jobs wait and run now."""
        with self._lock:
            self._waiting, self._running = waiting, running

    def finished(self, seconds: float) -> None:
        """A picture was decoded and encoded."""
        with self._lock:
            self._finish_s.append(seconds)
            self._finish_histogram.add(seconds)

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
                self._latency_histogram.add(latency_s)
            elif outcome.code == "cancelled":
                self._cancelled += 1
            else:
                self._failed += 1

    def snapshot(self) -> EngineStats:
        """All of it, as of one moment."""
        with self._lock:
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
                step_times=self._step_times(),
                finish_s=statistics.median(self._finish_s) if self._finish_s else None,
                batch_histogram=self._batch_histogram.snapshot(),
                step_histogram=self._step_histogram.snapshot(),
                queue_histogram=self._queue_histogram.snapshot(),
                finish_histogram=self._finish_histogram.snapshot(),
                latency_histogram=self._latency_histogram.snapshot(),
            )

    def _step_times(self) -> StepTimes | None:
        measured = ((batch, statistics.median(seconds)) for batch, seconds in sorted(self._of_default_size.items()))
        return StepTimes(tuple(measured)) if self._of_default_size else None
