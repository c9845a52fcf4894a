"""The jobs that a worker holds, and how far each of them is."""

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field

from models.diffusion.job import JobUpdate, Progress
from server.observe import worker as metrics
from server.pool.origin import Origin
from server.pool.queue.consumer import TakenJob
from server.pool.updates import Updates


@dataclass(slots=True, eq=False)
class HeldJob:
    """A job that this worker holds.

    Attributes:
        taken: as it came from the queue.
        counted: whether Redis counts this try already.
        origin: the request that it is drawn for.
        context: in which what is done for it is logged and traced.
        since: when it came here, on the loop's clock.
        updates: of the engine, not yet told.
        steps_left: of the job; 0 before it has been read.
        relative_area: of its picture; see :meth:`DecoderDescription.relative_area`.
        given_up: why nothing more is to be told of it: it was cancelled, lost or handed back.
        ended: how it ended, if it was not given up.
        storing: whether an outcome is on its way to Redis, whose answer says whether the job was this worker's.
    """

    taken: TakenJob
    counted: bool
    origin: Origin
    context: Context
    since: float
    updates: Updates = field(default_factory=Updates)
    steps_left: int = 0
    relative_area: float = 1.0
    given_up: str | None = None
    ended: str = ""
    storing: bool = False


class HeldJobs:
    """All that a worker holds. A job arrives, is drawn by the engine, and is gone when Redis knows how it ended.

    Args:
        drop: has the engine draw a job no further.

    Attributes:
        alone: locked while a job is drawn beside which nothing else may be.
    """

    def __init__(self, drop: Callable[[str], object]) -> None:
        self.alone = asyncio.Lock()
        self._drop = drop
        self._jobs: dict[str, HeldJob] = {}
        self._arriving: set[str] = set()
        self._drawing: set[str] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def by_id(self) -> dict[str, HeldJob]:
        """The jobs as they are now."""
        return dict(self._jobs)

    @property
    def arriving(self) -> int:
        """How many the engine does not have yet."""
        return len(self._arriving)

    @property
    def steps_ahead(self) -> int:
        """Steps that are left of all, in those of a picture of the checkpoint's own size."""
        return math.ceil(sum(held.steps_left * held.relative_area for held in self._jobs.values()))

    def find(self, job_id: str) -> HeldJob | None:
        """A job, if it is held."""
        return self._jobs.get(job_id)

    def add(self, held: HeldJob) -> None:
        """A job has come from the queue."""
        self._jobs[held.taken.id] = held
        metrics.TAKEN.inc()
        metrics.WAIT.observe(held.taken.waited_s)
        metrics.HELD.set(len(self._jobs))
        self._arriving.add(held.taken.id)

    def remove(self, held: HeldJob) -> None:
        """A job has ended, or is held no more."""
        self._arriving.discard(held.taken.id)
        self._drawing.discard(held.taken.id)
        del self._jobs[held.taken.id]
        metrics.HELD.set(len(self._jobs))
        self._changed.set()

    def begin_drawing(self, held: HeldJob) -> None:
        """The engine has a job."""
        self._arriving.discard(held.taken.id)
        self._drawing.add(held.taken.id)

    def end_drawing(self, held: HeldJob) -> None:
        """The engine has done with a job."""
        self._drawing.discard(held.taken.id)

    def is_drawing(self, held: HeldJob) -> bool:
        """Whether the engine has a job now."""
        return held.taken.id in self._drawing

    def is_alone(self, held: HeldJob) -> bool:
        """Whether the engine neither has nor gets any other."""
        return not (self._arriving - {held.taken.id} or self._drawing)

    def deliver(self, job_id: str, update: JobUpdate) -> None:
        """The engine has something to say of a job."""
        if held := self._jobs.get(job_id):
            held.updates.put(update)
            if isinstance(update, Progress):
                held.steps_left = update.steps - update.step
        self._changed.set()

    def give_up(self, held: HeldJob, reason: str) -> None:
        """Draw a job no further; its place is free at the next step."""
        if held.given_up is None:
            held.given_up = reason
            metrics.ENDED.labels(reason).inc()
            self._drop(held.taken.id)

    async def change(self) -> None:
        """Return when a place may have become free, or :meth:`wake` was called."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """Let those go on who wait for a change."""
        self._changed.set()
