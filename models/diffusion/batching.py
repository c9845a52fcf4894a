"""Which jobs share the next UNet call. Policy only: nothing here touches a tensor."""

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from models.diffusion.job import RenderJob, Size
from models.diffusion.sample import Sample


@dataclass(slots=True)
class SizeGroup:
    """Jobs of one picture size: the only thing that keeps jobs out of each other's batch.

    Attributes:
        size: width and height in pixels.
        limit: samples of one UNet call.
        waiting: those of high priority first, and each kind in order of arrival.
        running: the one that was stepped longest ago first.
    """

    size: Size
    limit: int
    waiting: list[RenderJob] = field(default_factory=list)
    running: deque[Sample] = field(default_factory=deque)

    def add(self, job: RenderJob) -> None:
        """Put a job in line, behind all that wait with its priority or a higher one."""
        insort(self.waiting, job, key=lambda waiting: waiting.priority != "high")

    def admissible(self) -> RenderJob | None:
        """Take the next waiting job if there is a place for it."""
        if self.waiting and len(self.running) < self.limit:
            return self.waiting.pop(0)
        return None

    def batch(self) -> list[Sample]:
        """The samples of the next call: all that run, unless the limit was lowered since; then they take turns."""
        chosen = [self.running[i] for i in range(min(self.limit, len(self.running)))]
        self.running.rotate(-len(chosen))
        return chosen


class SizeGroups:
    """The jobs of an engine by size. The sizes take turns, one step each, so none starves another.

    Args:
        limit: samples of one UNet call.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lowered: dict[Size, int] = {}
        self._groups: OrderedDict[Size, SizeGroup] = OrderedDict()

    def add(self, job: RenderJob) -> None:
        """Put a job in line."""
        if job.size not in self._groups:
            self._groups[job.size] = SizeGroup(job.size, self.limit(job.size))
        self._groups[job.size].add(job)

    def limit(self, size: Size) -> int:
        """Samples of one UNet call at this size. Callable from any thread."""
        return self._lowered.get(size, self._limit)

    def next_turn(self) -> SizeGroup | None:
        """The group that was stepped longest ago; None when there is nothing to do."""
        if not self._groups:
            return None
        size, group = next(iter(self._groups.items()))
        self._groups.move_to_end(size)
        return group

    def release(self, wanted: Callable[[str], bool]) -> None:
        """Let go of jobs whose id is not wanted any more, and of sizes without jobs."""
        for size, group in list(self._groups.items()):
            group.waiting = [job for job in group.waiting if wanted(job.id)]
            group.running = deque(sample for sample in group.running if wanted(sample.job.id))
            if not group.waiting and not group.running:
                del self._groups[size]

    def lower_limit(self, group: SizeGroup, limit: int) -> None:
        """Make batches of this size smaller for good: a bigger one did not fit in memory."""
        group.limit = self._lowered[group.size] = limit

    @property
    def empty(self) -> bool:
        """Whether no job is left, as of the last release."""
        return not self._groups

    @property
    def waiting(self) -> int:
        """Jobs without a place."""
        return sum(len(group.waiting) for group in self._groups.values())

    @property
    def running(self) -> int:
        """Jobs with a place."""
        return sum(len(group.running) for group in self._groups.values())
