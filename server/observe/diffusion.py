"""What the diffusion engine of this process counts, as metrics. Read when they are scraped."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from models.diffusion.distribution import Distribution
from models.diffusion.stats import EngineStats
from server.observe.buckets import SECONDS

HANDOFF = Histogram(
    "dreamserve_handoff_seconds",
    "From dream states in a server to a diffusion engine that has them, of first tries.",
    buckets=(0.001, 0.0025, 0.005, *SECONDS),
)


class EngineCollector(Collector):
    """Turns snapshots of the engine's counts into metrics."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        counters = {
            "steps": ("UNet calls.", stats.steps),
            "job_steps": ("Denoising steps, summed over the jobs of each UNet call.", stats.job_steps),
        }
        for name, (description, value) in counters.items():
            yield CounterMetricFamily(f"dreamserve_diffusion_{name}", description, value)
        previews = CounterMetricFamily(
            "dreamserve_diffusion_previews", "Early views due, by outcome.", labels=["outcome"]
        )
        previews.add_metric(["decoded"], stats.previews)
        previews.add_metric(["left_out"], stats.previews_left_out)
        yield previews
        jobs = CounterMetricFamily("dreamserve_diffusion_jobs", "Image jobs ended, by how.", labels=["outcome"])
        for outcome in ("completed", "failed", "cancelled"):
            jobs.add_metric([outcome], getattr(stats, outcome))
        yield jobs
        distributions = {
            "batch_size": ("Image jobs of one UNet call.", stats.batch_histogram),
            "step_seconds": ("One UNet call.", stats.step_histogram),
            "queue_seconds": ("From an image job's arrival in the engine to its batch.", stats.queue_histogram),
            "finish_seconds": ("From an image job's last step to its encoded picture.", stats.finish_histogram),
            "latency_seconds": ("From an image job's arrival in the engine to its picture.", stats.latency_histogram),
        }
        for name, (description, distribution) in distributions.items():
            yield histogram(f"dreamserve_diffusion_{name}", description, distribution)


def histogram(name: str, description: str, distribution: Distribution) -> HistogramMetricFamily:
    """A distribution as Prometheus has it."""
    bounds = [*map(floatToGoString, distribution.bounds), "+Inf"]
    buckets = list(zip(bounds, distribution.cumulative, strict=True))
    return HistogramMetricFamily(name, description, buckets=buckets, sum_value=distribution.sum)


@contextmanager
def exported(stats: Callable[[], EngineStats]) -> Iterator[None]:
    """Export the counts of the one engine of this process."""
    collector = EngineCollector(stats)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
