"""A job that a server waits for."""

from contextvars import Context, copy_context
from dataclasses import dataclass, field

from models.diffusion.job import Outcome, RenderJob
from server.pool.queue.producer import Submission
from server.pool.updates import Updates


@dataclass(slots=True, eq=False)
class OpenJob:
    """A job that has not ended, and what is needed to put it in line once more.

    Attributes:
        job: as its reader gave it.
        submission: what is in Redis.
        begun_at: when it came, on the loop's clock.
        deadline: on the same.
        context: of its reader: the request and the span that what is done for it belongs to.
        updates: that its reader has not taken yet.
        submitted: whether Redis has taken it.
        fetching: whether its outcome is on its way.
        ended: whether its end is among its updates; nothing more is done for it.
    """

    job: RenderJob
    submission: Submission
    begun_at: float
    deadline: float | None
    context: Context = field(default_factory=copy_context)
    updates: Updates = field(default_factory=Updates)
    submitted: bool = False
    fetching: bool = False
    ended: bool = False

    @property
    def kept(self) -> bool:
        """Whether its place in Redis is to be held."""
        return self.submitted and not self.fetching and not self.ended

    def end(self, outcome: Outcome) -> None:
        """Tell its reader how it ended, unless that has been told before."""
        if not self.ended:
            self.ended = True
            self.updates.put(outcome)
