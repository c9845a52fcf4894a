"""The spans of a job at work: in a worker, and in a diffusion engine.

A worker has ``queue``, and then ``draw`` with ``denoise``, ``decode`` and ``store`` in it. A server that draws by
itself has ``denoise`` and ``decode``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind

from models.diffusion.job import Failed, JobUpdate, Progress
from server.observe.tracing import context_of, fail, tracer
from server.pool.origin import Origin
from server.pool.queue.consumer import TakenJob


@contextmanager
def draw_span(taken: TakenJob, origin: Origin) -> Iterator[Span]:
    """``draw``, a job in a worker, and before it ``queue``, its time in line: children of the server's span."""
    parent, now_ns = context_of(origin.trace), time.time_ns()
    queued_at_ns = now_ns - round(taken.waited_s * 1e9)
    tracer.start_span("queue", parent, start_time=queued_at_ns).end(now_ns)
    attributes: dict[str, str | int] = {"dreamserve.image.job": taken.id, "dreamserve.image.try": taken.tries}
    with tracer.start_as_current_span("draw", parent, SpanKind.CONSUMER, attributes) as span:
        yield span


class RenderSpans:
    """``denoise``, from when the engine has a job to its last step, then ``decode``, to its end.

    They are children of the span in which this is made. Its place in a batch a job gets within ``denoise``, at the
    event ``first step`` at the latest.
    """

    def __init__(self) -> None:
        self._span: Span = tracer.start_span("denoise")
        self._begun = False

    def observe(self, update: JobUpdate) -> None:
        """Take an update of the job."""
        match update:
            case Progress(step=step, steps=steps) if step == steps:
                self._span.end()
                self._span = tracer.start_span("decode")
            case Progress() if not self._begun:
                self._begun = True
                self._span.add_event("first step")
            case Failed(code=code):
                fail(self._span, code)

    def end(self) -> None:
        """The job has ended, or nobody waits for it any more."""
        self._span.end()
