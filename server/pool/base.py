"""What the interceptor needs of a pool of diffusion workers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from models.diffusion.job import (
    Completed,
    ImageFormat,
    Preview,
    Progress,
    RenderedImage,
    RenderJob,
    SchedulerName,
)

__all__ = [
    "Completed",
    "DiffusionPool",
    "ImageFormat",
    "ImageUpdate",
    "PoolDeadError",
    "PoolLoad",
    "Preview",
    "Progress",
    "Queued",
    "RenderError",
    "RenderJob",
    "RenderedImage",
    "SchedulerName",
]


@dataclass(frozen=True, slots=True)
class Queued:
    """The job waits behind ``position`` others and should be finished in ``eta_s`` seconds, if that is known."""

    position: int
    eta_s: float | None


ImageUpdate = Queued | Progress | Preview | Completed


class RenderError(Exception):
    """A job ended without a picture.

    Attributes:
        code: short and stable, for programs: ``"render_failed"``, ``"cancelled"``, ``"timeout"``, ``"unavailable"`` …
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PoolDeadError(Exception):
    """The pool will never draw again in this process."""


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """How busy a pool is.

    Attributes:
        queue_depth: jobs waiting for a place in a batch.
        running: jobs in a batch.
        seconds_ahead: work of all of them at the measured speed.
        workers_alive: workers that could take a job now.
        steps_per_s: denoising steps that all of them make in a second with full batches, counted in steps of a picture
            of the checkpoint's own size; None until it has been measured.
        takes_jobs: whether a job can be handed over now. It may have to wait for the first worker.
    """

    queue_depth: int
    running: int
    seconds_ahead: float
    workers_alive: int
    steps_per_s: float | None = None
    takes_jobs: bool = True


class DiffusionPool(Protocol):
    """Where image jobs go. Everything is called on one event loop."""

    def render(self, job: RenderJob) -> AsyncGenerator[ImageUpdate, None]:
        """Updates of a job: first ``Queued``, last ``Completed``. Closing the iterator cancels the job within a step.

        Raises:
            RenderError: there will be no picture.
        """
        ...

    async def cancel(self, job_id: str) -> None:
        """Give up a job within one step: its ``render`` raises ``RenderError("cancelled")``. Ignores unknown ids."""
        ...

    async def load(self) -> PoolLoad:
        """How busy the pool is now."""
        ...

    async def health(self) -> None:
        """Return if the pool can draw, or may be able to again.

        Raises:
            PoolDeadError: it never will.
        """
        ...
