"""What the diffusion engine of this process counts, as metrics. Read when they are scraped."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.diffusion.stats import EngineStats


class EngineCollector(Collector):
    """Turns snapshots of the engine's counts into metrics."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        counters = {
            "steps": ("UNet calls.", stats.steps),
            "job_steps": ("Denoising steps, summed over jobs; divided by UNet calls: the mean batch.", stats.job_steps),
            "busy_seconds": ("Time in UNet calls; divided by their number: the mean of one.", stats.busy_s),
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
        medians = {
            "step": ("One UNet call", stats.step_s),
            "queue": ("From an image job's arrival to its place in a batch", stats.queue_s),
            "finish": ("From an image job's last step to its encoded picture", stats.finish_s),
            "latency": ("From an image job's arrival to its encoded picture", stats.latency_s),
        }
        for name, (description, seconds) in medians.items():
            if seconds is not None:
                yield GaugeMetricFamily(
                    f"dreamserve_diffusion_{name}_seconds", f"{description}: median of the latest.", seconds
                )


@contextmanager
def exported(stats: Callable[[], EngineStats]) -> Iterator[None]:
    """Export the counts of the one engine of this process."""
    collector = EngineCollector(stats)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
