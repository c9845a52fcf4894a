"""Which jobs are still wanted, and the one way out for everything that is told about them."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from models.diffusion.job import Failed, JobUpdate, Outcome, Preview, Progress, RenderJob, Size
from models.diffusion.stats import EngineCounters

logger = logging.getLogger(__name__)

Emit = Callable[[str, JobUpdate], None]


class EngineUnavailableError(RuntimeError):
    """The engine takes no jobs: it is closing, or it died."""


@dataclass(slots=True)
class _OpenJob:
    size: Size
    progress: Progress | None = None
    opened_at: float = field(default_factory=time.perf_counter)
    context: Context = field(default_factory=copy_context)

    @property
    def staying(self) -> bool:
        """Whether it waits for a place in a batch, or keeps the one that it has beyond the next step."""
        return self.progress is None or self.progress.step + 1 < self.progress.steps


class OpenJobs:
    """The jobs that have not ended, by their ids.

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
        self._jobs: dict[str, _OpenJob] = {}
        self._refusal: str | None = None
        self._changed = threading.Condition()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def open(self, job: RenderJob) -> None:
        """Begin a job.

        Raises:
            EngineUnavailableError: no new jobs are taken.
            ValueError: a job with this id is open.
        """
        with self._changed:
            if self._refusal is not None:
                raise EngineUnavailableError(self._refusal)
            if job.id in self._jobs:
                raise ValueError(f"job {job.id} is already running")
            self._jobs[job.id] = _OpenJob(job.size)

    def age(self, job_id: str) -> float:
        """Seconds since the job was opened; 0 for one that is not open."""
        job = self._jobs.get(job_id)
        return time.perf_counter() - job.opened_at if job else 0.0

    def staying(self) -> Counter[Size]:
        """Jobs of each size that wait for a place in a batch, or keep the one that they have beyond the next step."""
        with self._changed:
            return Counter(job.size for job in self._jobs.values() if job.staying)

    def tell(self, job_id: str, update: Progress | Preview) -> None:
        """Pass on how a job is doing, if it is open."""
        with self._changed:
            if job := self._jobs.get(job_id):
                if isinstance(update, Progress):
                    job.progress = update
                self._emit(job_id, update)

    def end(self, job_id: str, outcome: Outcome) -> bool:
        """End a job; False when it had ended before."""
        with self._changed:
            job = self._jobs.pop(job_id, None)
            if job is None:
                return False
            self._counters.ended(outcome, time.perf_counter() - job.opened_at)
            self._emit(job_id, outcome)
            self._changed.notify_all()
            return True

    def fail(self, job_id: str, error: Exception) -> None:
        """End a job because of an error, which is logged, in the context in which the job was opened, and not told."""
        job = self._jobs.get(job_id)
        context = job.context.copy() if job else Context()
        context.run(logger.error, "image job %s failed", job_id, exc_info=error)
        self.end(job_id, Failed("render_failed", "The picture could not be drawn."))

    def refuse(self, reason: str) -> None:
        """Open no more jobs."""
        with self._changed:
            self._refusal = reason

    def end_all(self, outcome: Failed) -> None:
        """End every job that is open."""
        for job_id in list(self._jobs):
            self.end(job_id, outcome)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Block until no job is open, or for so long; whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_s)
