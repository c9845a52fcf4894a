"""The server's own metrics, on prometheus_client's default registry, where vLLM's are too."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

HTTP_REQUESTS = Counter("dreamserve_http_requests_total", "HTTP requests answered.", ("method", "route", "status"))
HTTP_DURATION = Histogram(
    "dreamserve_http_request_duration_seconds",
    "Until the last byte of the answer.",
    ("method", "route"),
    buckets=SECONDS,
)
DOCUMENTS = Counter("dreamserve_documents_total", "Documents ended, by how.", ("outcome",))
DOCUMENTS_RUNNING = Gauge("dreamserve_documents_running", "Documents being made, or in line.")
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
REMOTE_IMAGES = Counter(
    "dreamserve_remote_images_total", "Pictures of requests asked for at other hosts, by what came of it.", ("outcome",)
)
CHECK_REFUSALS = Counter("dreamserve_check_refusals_total", "What checks refused, and why.", ("check", "reason"))
CHECK_DURATION = Histogram(
    "dreamserve_check_duration_seconds", "Of checks, their wait for a thread included.", ("check",), buckets=SECONDS
)
ADMISSION_REFUSED = Counter(
    "dreamserve_admission_refused_total", "Documents for which there was no room, by what was full.", ("reason",)
)
ADMISSION_WAITING = Gauge("dreamserve_admission_waiting", "Documents in line.")
ADMISSION_WAIT = Histogram("dreamserve_admission_wait_seconds", "In line, of documents admitted.", buckets=SECONDS)
ADMISSION_TOKENS = Gauge("dreamserve_admission_reserved_tokens", "Tokens promised to documents at work.")
ADMISSION_PICTURE_SECONDS = Gauge(
    "dreamserve_admission_reserved_picture_seconds", "Work for the pool promised to documents at work, not queued yet."
)
JOURNAL_DOCUMENTS = Gauge("dreamserve_journal_documents", "Stored documents in this process.")
JOURNAL_BYTES = Gauge("dreamserve_journal_bytes", "What stored documents take in this process, about.")
JOURNAL_MIRROR_LAG = Gauge(
    "dreamserve_journal_mirror_lag_seconds", "Age of the oldest event of a stored document that is not in Redis yet."
)
JOURNAL_MIRRORS_GIVEN_UP = Counter(
    "dreamserve_journal_mirrors_given_up_total", "Stored documents that did not get to Redis."
)
RATE_LIMITED = Counter(
    "dreamserve_rate_limited_total", "Answers refused to callers at a limit of theirs.", ("resource",)
)
RATE_LIMIT_FALLBACKS = Counter(
    "dreamserve_rate_limit_fallbacks_total", "Times that rate limits could not be counted in Redis."
)
READY = Gauge("dreamserve_ready", "1 while the server takes requests.")

for _outcome in ("stop", "length", "failed", "cancelled", "rejected"):
    DOCUMENTS.labels(_outcome)
for _outcome in ("completed", "failed"):
    IMAGES.labels(_outcome)
for _reason in ("line_full", "waited_too_long", "pool_full"):
    ADMISSION_REFUSED.labels(_reason)
for _outcome in ("fetched", "failed"):
    REMOTE_IMAGES.labels(_outcome)
for _check in ("prompt", "image", "preview"):
    for _reason in ("refused", "failed", "timeout"):
        CHECK_REFUSALS.labels(_check, _reason)
for _resource in ("requests", "tokens", "images", "streams"):
    RATE_LIMITED.labels(_resource)
