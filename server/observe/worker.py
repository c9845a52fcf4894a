"""Metrics of a worker, beside those of its diffusion engine."""

from prometheus_client import Counter, Gauge, Histogram

from server.observe.buckets import SECONDS

TAKEN = Counter("dreamserve_worker_jobs_taken_total", "Image jobs taken from the queue.")
TAKEN_OVER = Counter("dreamserve_worker_jobs_taken_over_total", "Of these, those that another worker had begun.")
WAIT = Histogram(
    "dreamserve_worker_job_wait_seconds", "In the queue, of image jobs taken, by the clock of Redis.", buckets=SECONDS
)
ENDED = Counter("dreamserve_worker_jobs_ended_total", "Image jobs that this worker let go of, by how.", ("outcome",))
LEASES_LOST = Counter(
    "dreamserve_worker_leases_lost_total", "Image jobs that were not this worker's any more when it renewed its lease."
)
HELD = Gauge("dreamserve_worker_jobs_held", "Image jobs that this worker holds.")
REDIS_ERRORS = Counter("dreamserve_worker_redis_errors_total", "Calls to Redis that failed and were tried again.")

for _outcome in ("completed", "failed", "cancelled", "lost", "handed_back", "dead_letter"):
    ENDED.labels(_outcome)
