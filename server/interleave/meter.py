"""Measures documents by their events alone, so that every surface is measured alike."""

from time import perf_counter

from server.interleave.events import (
    CANCELLED,
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    ImageCompleted,
    ImageFailed,
    ImageQueued,
    TextDelta,
    Usage,
)
from server.observe import metrics
from server.observe.requests import arrival


class DocumentMeter:
    """Measures one document, from the arrival of its request to :meth:`close`."""

    def __init__(self) -> None:
        self._begin = arrival.get() or perf_counter()
        self._outcome = "rejected"
        self._queued: dict[int, float] = {}
        self._text_seen = False
        self._latest_image: float | None = None
        metrics.DOCUMENTS_RUNNING.inc()

    @property
    def outcome(self) -> str:
        """How the document ended: a finish reason, ``failed``, ``cancelled``, or ``rejected`` if it never started."""
        return self._outcome

    @property
    def seconds(self) -> float:
        """Since the request arrived."""
        return perf_counter() - self._begin

    def observe(self, event: DocumentEvent) -> None:
        """Count one event."""
        match event:
            case DocumentStarted():
                self._outcome = "cancelled"
            case TextDelta() if not self._text_seen:
                self._text_seen = True
                metrics.TIME_TO_FIRST_TOKEN.observe(self.seconds)
            case ImageQueued(part=part):
                self._queued[part] = perf_counter()
            case ImageCompleted(part=part):
                self._image_ended(part, "completed")
            case ImageFailed(part=part, code=code):
                self._image_ended(part, code if code in metrics.IMAGE_OUTCOMES else "failed")
            case DocumentCompleted(finish_reason=reason, usage=usage):
                self._outcome = reason
                metrics.DOCUMENT_DURATION.observe(self.seconds)
                count_usage(usage)
            case DocumentFailed(code=code, usage=usage):
                self._outcome = "cancelled" if code == CANCELLED else "failed"
                count_usage(usage)

    def close(self) -> None:
        """The document has ended, in whatever way."""
        metrics.IMAGES.labels("cancelled").inc(len(self._queued))
        metrics.DOCUMENTS_RUNNING.dec()
        metrics.DOCUMENTS.labels(self._outcome).inc()

    def _image_ended(self, part: int, outcome: str) -> None:
        now = perf_counter()
        queued = self._queued.pop(part)
        metrics.IMAGES.labels(outcome).inc()
        if outcome == "completed":
            metrics.IMAGE_DURATION.observe(now - queued)
            if self._latest_image is None:
                metrics.TIME_TO_FIRST_IMAGE.observe(now - self._begin)
            else:
                metrics.IMAGE_GAP.observe(now - self._latest_image)
            self._latest_image = now


def count_usage(usage: Usage) -> None:
    """Add what a document cost."""
    metrics.TOKENS.labels("prompt").inc(usage.prompt_tokens)
    metrics.TOKENS.labels("completion").inc(usage.completion_tokens)
    metrics.TOKENS.labels("image").inc(usage.image_tokens)
    metrics.DENOISING_STEPS.inc(usage.denoising_steps)
