"""The server's own metrics, on prometheus_client's default registry, where vLLM's are too."""

from prometheus_client import Counter, Gauge, Histogram

from server.observe.buckets import SECONDS, TOKEN_SECONDS

READY = Gauge("dreamserve_ready", "1 while /health/ready passes.")

HTTP_REQUESTS = Counter("dreamserve_http_requests_total", "HTTP requests answered.", ("method", "route", "status"))
HTTP_DURATION = Histogram(
    "dreamserve_http_request_duration_seconds",
    "Until the last byte of the answer.",
    ("method", "route"),
    buckets=SECONDS,
)
SSE_CONNECTIONS = Gauge("dreamserve_sse_connections", "Open streams of server-sent events.")

DOCUMENTS = Counter("dreamserve_documents_total", "Documents ended, by how.", ("outcome",))
DOCUMENTS_RUNNING = Gauge("dreamserve_documents_running", "Documents being made, or in line.")
DOCUMENT_DURATION = Histogram("dreamserve_document_duration_seconds", "Of documents that ended well.", buckets=SECONDS)
TOKENS = Counter("dreamserve_tokens_total", "Tokens of documents that ended.", ("kind",))
DENOISING_STEPS = Counter("dreamserve_denoising_steps_total", "Denoising steps of documents that ended.")

TIME_TO_FIRST_TOKEN = Histogram(
    "dreamserve_time_to_first_token_seconds",
    "From the arrival of a request to its first token of text on the way out, of answers with text.",
    buckets=SECONDS,
)
INTER_TOKEN_LATENCY = Histogram(
    "dreamserve_inter_token_latency_seconds",
    "Between tokens of text that no picture parts; of tokens that came together, their mean.",
    buckets=TOKEN_SECONDS,
)
TIME_TO_FIRST_IMAGE = Histogram(
    "dreamserve_time_to_first_image_seconds",
    "From the arrival of a request to its first finished picture.",
    buckets=SECONDS,
)
IMAGE_GAP = Histogram("dreamserve_image_gap_seconds", "Between two finished pictures of one document.", buckets=SECONDS)
IMAGES = Counter("dreamserve_images_total", "Pictures asked for by the model, by what came of them.", ("outcome",))
IMAGE_DURATION = Histogram("dreamserve_image_duration_seconds", "From dream to finished picture.", buckets=SECONDS)
TEXT_STALL = Histogram(
    "dreamserve_text_stall_seconds",
    "From a dream token to the next token: how long a picture kept its text waiting.",
    buckets=SECONDS,
)
STALLED_DOCUMENTS = Gauge("dreamserve_stalled_documents", "Documents whose text waits for a picture.")
STALLED_TOKENS = Gauge(
    "dreamserve_stalled_kv_tokens",
    "Their contexts in tokens: what the prefix cache has to hold for them, or they are computed again.",
)
FEEDBACK_PREFIX_TOKENS = Counter(
    "dreamserve_feedback_prefix_tokens_total",
    "Tokens of contexts that went on after a picture and had been computed before it, by where they came from.",
    ("source",),
)

POOL_WAITING = Gauge("dreamserve_pool_jobs_waiting", "Image jobs of all servers that wait for a place in a batch.")
POOL_RUNNING = Gauge("dreamserve_pool_jobs_running", "Image jobs of all servers in a batch.")
POOL_WORK_AHEAD = Gauge("dreamserve_pool_work_ahead_seconds", "Work of all these at the measured speed.")
POOL_WORKERS_ALIVE = Gauge("dreamserve_pool_workers_alive", "Workers that could take an image job.")
POOL_SUBMISSIONS_FAILED = Counter(
    "dreamserve_pool_submissions_failed_total", "Times that Redis did not take an image job, which was tried again."
)
POOL_RESUBMITTED = Counter(
    "dreamserve_pool_jobs_resubmitted_total", "Image jobs put in line again, because Redis had lost them."
)

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
RATE_LIMITED = Counter(
    "dreamserve_rate_limited_total", "Answers refused to callers at a limit of theirs.", ("resource",)
)
RATE_LIMIT_FALLBACKS = Counter(
    "dreamserve_rate_limit_fallbacks_total", "Times that rate limits could not be counted in Redis."
)

JOURNAL_DOCUMENTS = Gauge("dreamserve_journal_documents", "Stored documents in this process.")
JOURNAL_BYTES = Gauge("dreamserve_journal_bytes", "What stored documents take in this process, about.")
JOURNAL_MIRROR_LAG = Gauge(
    "dreamserve_journal_mirror_lag_seconds", "Age of the oldest event of a stored document that is not in Redis yet."
)
JOURNAL_MIRRORS_GIVEN_UP = Counter(
    "dreamserve_journal_mirrors_given_up_total", "Stored documents that did not get to Redis."
)

IMAGE_OUTCOMES = frozenset(
    {
        "completed",
        "cancelled",
        "content_filtered",
        "dream_failed",
        "failed",
        "overloaded",
        "timeout",
        "unavailable",
        "worker_lost",
    }
)
"""Codes of pictures that are counted by themselves. Any other one, also one that a worker made up, counts as failed."""

# A series that is not there before its first event has no rate at that event.
for _outcome in ("stop", "length", "failed", "cancelled", "rejected"):
    DOCUMENTS.labels(_outcome)
for _outcome in IMAGE_OUTCOMES:
    IMAGES.labels(_outcome)
for _source in ("cached", "recomputed"):
    FEEDBACK_PREFIX_TOKENS.labels(_source)
for _reason in ("line_full", "waited_too_long", "pool_full"):
    ADMISSION_REFUSED.labels(_reason)
for _outcome in ("fetched", "failed"):
    REMOTE_IMAGES.labels(_outcome)
for _check in ("prompt", "image", "preview"):
    for _reason in ("refused", "failed", "timeout"):
        CHECK_REFUSALS.labels(_check, _reason)
for _resource in ("requests", "tokens", "images", "streams"):
    RATE_LIMITED.labels(_resource)
