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


class DocumentMeter:
    """Measures one document, from its making to :meth:`close`."""

    def __init__(self) -> None:
        self._begin = perf_counter()
        self._outcome = "rejected"
        self._queued: dict[int, float] = {}
        self._text_seen = self._image_seen = False
        metrics.DOCUMENTS_RUNNING.inc()

    @property
    def outcome(self) -> str:
        """How the document ended: a finish reason, ``failed``, ``cancelled``, or ``rejected`` if it never started."""
        return self._outcome

    @property
    def seconds(self) -> float:
        """Since the document was begun."""
        return perf_counter() - self._begin

    def observe(self, event: DocumentEvent) -> None:
        """Count one event."""
        match event:
            case DocumentStarted():
                self._outcome = "cancelled"
            case TextDelta() if not self._text_seen:
                self._text_seen = True
                metrics.TIME_TO_FIRST_TEXT.observe(self.seconds)
            case ImageQueued(part=part):
                self._queued[part] = perf_counter()
            case ImageCompleted(part=part):
                metrics.IMAGES.labels("completed").inc()
                metrics.IMAGE_DURATION.observe(perf_counter() - self._queued.get(part, self._begin))
                if not self._image_seen:
                    self._image_seen = True
                    metrics.TIME_TO_FIRST_IMAGE.observe(self.seconds)
            case ImageFailed():
                metrics.IMAGES.labels("failed").inc()
            case DocumentCompleted(finish_reason=reason, usage=usage):
                self._outcome = reason
                metrics.DOCUMENT_DURATION.observe(self.seconds)
                count_usage(usage)
            case DocumentFailed(code=code, usage=usage):
                self._outcome = "cancelled" if code == CANCELLED else "failed"
                count_usage(usage)

    def close(self) -> None:
        """The document has ended, in whatever way."""
        metrics.DOCUMENTS_RUNNING.dec()
        metrics.DOCUMENTS.labels(self._outcome).inc()


def count_usage(usage: Usage) -> None:
    """Add what a document cost."""
    metrics.TOKENS.labels("prompt").inc(usage.prompt_tokens)
    metrics.TOKENS.labels("completion").inc(usage.completion_tokens)
    metrics.TOKENS.labels("image").inc(usage.image_tokens)
    metrics.DENOISING_STEPS.inc(usage.denoising_steps)
