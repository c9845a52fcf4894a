"""What a render pipeline tells."""

import threading
from collections.abc import Callable
from typing import Any

from models.diffusion.job import JobUpdate, Outcome, Progress

PATIENCE_S = 60
"""How long a test waits for what must happen before it fails; no test passes because of it."""


class Updates:
    """All that a pipeline told, with a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[tuple[str, JobUpdate]] = []
        self._changed = threading.Condition()

    def emit(self, job_id: str, update: JobUpdate) -> None:
        with self._changed:
            self.all.append((job_id, update))
            self._changed.notify_all()

    def of(self, job_id: str) -> list[JobUpdate]:
        return [update for told, update in list(self.all) if told == job_id]

    def outcomes(self, job_id: str) -> list[Outcome]:
        return [update for update in self.of(job_id) if isinstance(update, Outcome)]

    def wait(self, condition: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), "it did not happen"

    def outcome(self, job_id: str) -> Outcome:
        self.wait(lambda: self.outcomes(job_id))
        return self.outcomes(job_id)[0]

    def wait_for_steps(self, job_id: str, steps: int) -> None:
        self.wait(lambda: sum(isinstance(update, Progress) for update in self.of(job_id)) >= steps)
