"""How busy vLLM is: what its scheduler tells this process after every step."""

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import SchedulerStats

from server.llm.engine import EngineLoad


class LatestLoad(StatLoggerBase):  # type: ignore[misc]
    """A stat logger of vLLM's that keeps the latest of what it is told.

    vLLM adds its own ones, those of the log and of Prometheus, as it would without it.

    Attributes:
        load: of the scheduler, at its latest step that had something to send.
    """

    def __init__(self) -> None:
        self.load = EngineLoad()

    def record(self, scheduler_stats: SchedulerStats | None, *_: Any, **__: Any) -> None:
        """Take what the scheduler tells of a step, if it does."""
        if scheduler_stats is not None:
            self.load = EngineLoad(
                running=scheduler_stats.num_running_reqs,
                waiting=scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs,
                kv_usage=scheduler_stats.kv_cache_usage,
            )

    def log_engine_initialized(self) -> None:
        """There is nothing to log."""
