"""Which jobs are still wanted, and the one way out for everything that is told about them."""

import logging
import threading
import time
from collections.abc import Callable

from models.diffusion.job import Failed, JobUpdate, Outcome, Preview, Progress
from models.diffusion.stats import EngineCounters

logger = logging.getLogger(__name__)

Emit = Callable[[str, JobUpdate], None]


class EngineUnavailableError(RuntimeError):
    """The engine takes no jobs: it is closing, or it died."""


class OpenJobs:
    """The ids of the jobs that have not ended.

    Every job that is opened ends exactly once, with an outcome, and nothing is told of it afterwards, whichever threads
    try. Cancelling a job is ending it here: all stages drop jobs that are not open when they next meet them.

    Args:
        emit: is called with a job id and an update, from any thread but one call at a time. It must be quick, and must
            not call back.
        counters: learns of each end.
    """

    def __init__(self, emit: Emit, counters: EngineCounters) -> None:
        self._emit = emit
        self._counters = counters
        self._opened_at: dict[str, float] = {}
        self._refusal: str | None = None
        self._changed = threading.Condition()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._opened_at

    def open(self, job_id: str) -> None:
        """Begin a job.

        Raises:
            EngineUnavailableError: no new jobs are taken.
            ValueError: a job with this id is open.
        """
        with self._changed:
            if self._refusal is not None:
                raise EngineUnavailableError(self._refusal)
            if job_id in self._opened_at:
                raise ValueError(f"job {job_id} is already running")
            self._opened_at[job_id] = time.perf_counter()

    def age(self, job_id: str) -> float:
        """Seconds since the job was opened; 0 for one that is not open."""
        now = time.perf_counter()
        return now - self._opened_at.get(job_id, now)

    def tell(self, job_id: str, update: Progress | Preview) -> None:
        """Pass on how a job is doing, if it is open."""
        with self._changed:
            if job_id in self._opened_at:
                self._emit(job_id, update)

    def end(self, job_id: str, outcome: Outcome) -> bool:
        """End a job; False when it had ended before."""
        with self._changed:
            opened_at = self._opened_at.pop(job_id, None)
            if opened_at is None:
                return False
            self._counters.ended(outcome, time.perf_counter() - opened_at)
            self._emit(job_id, outcome)
            self._changed.notify_all()
            return True

    def fail(self, job_id: str, error: Exception) -> None:
        """End a job because of an error, which is logged and not told."""
        logger.error("image job %s failed", job_id, exc_info=error)
        self.end(job_id, Failed("render_failed", "The picture could not be drawn."))

    def refuse(self, reason: str) -> None:
        """Open no more jobs."""
        with self._changed:
            self._refusal = reason

    def end_all(self, outcome: Failed) -> None:
        """End every job that is open."""
        for job_id in list(self._opened_at):
            self.end(job_id, outcome)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Block until no job is open, or for so long; whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._opened_at, timeout_s)
