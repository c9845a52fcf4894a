"""The server's own metrics, on prometheus_client's default registry, where vLLM's are too.

A document is measured by its events alone, so every surface is measured alike.
"""

from time import perf_counter

from prometheus_client import Counter, Gauge, Histogram

from server.interleave.events import (
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
from server.pool.base import PoolLoad

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

HTTP_REQUESTS = Counter("dreamserve_http_requests_total", "HTTP requests answered.", ("method", "route", "status"))
HTTP_DURATION = Histogram(
    "dreamserve_http_request_duration_seconds",
    "Until the last byte of the answer.",
    ("method", "route"),
    buckets=SECONDS,
)
DOCUMENTS = Counter("dreamserve_documents_total", "Documents ended, by how.", ("outcome",))
DOCUMENTS_RUNNING = Gauge("dreamserve_documents_running", "Documents being made.")
DOCUMENT_DURATION = Histogram("dreamserve_document_duration_seconds", "Of documents that ended well.", buckets=SECONDS)
TIME_TO_FIRST_TEXT = Histogram("dreamserve_time_to_first_text_seconds", "From request to first text.", buckets=SECONDS)
TIME_TO_FIRST_IMAGE = Histogram(
    "dreamserve_time_to_first_image_seconds", "From request to first finished picture.", buckets=SECONDS
)
IMAGES = Counter("dreamserve_images_total", "Pictures asked for by the model, by what came of them.", ("outcome",))
IMAGE_DURATION = Histogram("dreamserve_image_duration_seconds", "From dream to finished picture.", buckets=SECONDS)
TOKENS = Counter("dreamserve_tokens_total", "Tokens of documents that ended.", ("kind",))
DENOISING_STEPS = Counter("dreamserve_denoising_steps_total", "Denoising steps of documents that ended.")
POOL_QUEUE_DEPTH = Gauge("dreamserve_pool_queue_depth", "Image jobs that wait for a place in a batch.")
POOL_RUNNING = Gauge("dreamserve_pool_running", "Image jobs in a batch.")
POOL_SECONDS_AHEAD = Gauge("dreamserve_pool_seconds_ahead", "Work of all image jobs at the measured speed.")
POOL_WORKERS_ALIVE = Gauge("dreamserve_pool_workers_alive", "Workers that could take an image job.")
READY = Gauge("dreamserve_ready", "1 while the server takes requests.")

for _outcome in ("stop", "length", "failed", "cancelled", "rejected"):
    DOCUMENTS.labels(_outcome)
for _outcome in ("completed", "failed"):
    IMAGES.labels(_outcome)


class DocumentMeter:
    """Measures one document, from its making to :meth:`close`."""

    def __init__(self) -> None:
        self._begin = perf_counter()
        self._outcome = "rejected"
        self._queued: dict[int, float] = {}
        self._text_seen = self._image_seen = False
        DOCUMENTS_RUNNING.inc()

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
                TIME_TO_FIRST_TEXT.observe(self.seconds)
            case ImageQueued(part=part):
                self._queued[part] = perf_counter()
            case ImageCompleted(part=part):
                IMAGES.labels("completed").inc()
                IMAGE_DURATION.observe(perf_counter() - self._queued.get(part, self._begin))
                if not self._image_seen:
                    self._image_seen = True
                    TIME_TO_FIRST_IMAGE.observe(self.seconds)
            case ImageFailed():
                IMAGES.labels("failed").inc()
            case DocumentCompleted(finish_reason=reason, usage=usage):
                self._outcome = reason
                DOCUMENT_DURATION.observe(self.seconds)
                count_usage(usage)
            case DocumentFailed(usage=usage):
                self._outcome = "failed"
                count_usage(usage)

    def close(self) -> None:
        """The document has ended, in whatever way."""
        DOCUMENTS_RUNNING.dec()
        DOCUMENTS.labels(self._outcome).inc()


def count_usage(usage: Usage) -> None:
    """Add what a document cost."""
    TOKENS.labels("prompt").inc(usage.prompt_tokens)
    TOKENS.labels("completion").inc(usage.completion_tokens)
    TOKENS.labels("image").inc(usage.image_tokens)
    DENOISING_STEPS.inc(usage.denoising_steps)


def record_load(load: PoolLoad) -> None:
    """Note how busy the pool is."""
    POOL_QUEUE_DEPTH.set(load.queue_depth)
    POOL_RUNNING.set(load.running)
    POOL_SECONDS_AHEAD.set(load.seconds_ahead)
    POOL_WORKERS_ALIVE.set(load.workers_alive)
