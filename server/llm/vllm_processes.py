"""What vLLM's processes inherit from this one: environment variables, and no ear for Ctrl-C."""

import json
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from vllm.platforms import current_platform

from server.openmp import BLOCK_TIME_MS, INTEL_OPENMP
from server.settings import LLMSettings, LogFormat

TRITON_WARNING = "ignore::FutureWarning:vllm.triton_utils.dispatcher"
CGROUPS = Path("/sys/fs/cgroup")
CONFIG_PATH = "VLLM_LOGGING_CONFIG_PATH"


@contextmanager
def inheritance(settings: LLMSettings, log_format: LogFormat = "text") -> Iterator[None]:
    """What vLLM's processes inherit when they are started here. Afterwards this process has its own back.

    Args:
        settings: of vLLM.
        log_format: of the lines that vLLM logs, in its processes and in this one. Its own for people, or our JSON.
    """
    with logging_file(settings, log_format) as logs, environment(variables(settings) | logs), interrupts_blocked():
        yield


@contextmanager
def logging_file(settings: LLMSettings, log_format: LogFormat) -> Iterator[dict[str, str]]:
    """The variable that has vLLM read a ``logging.config`` file, and the file. An operator's own is kept."""
    if log_format == "text" or CONFIG_PATH in os.environ:
        yield {}
        return
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        json.dump(json_logging(settings.log_level), file)
        file.flush()
        yield {CONFIG_PATH: file.name}


def json_logging(level: str) -> dict[str, Any]:
    """What ``logging.config.dictConfig`` takes, for JSON lines on stderr.

    Only vLLM's own loggers: this process reads the file as well, and has set up the others.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "server.observe.logging.JSONFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "loggers": {"vllm": {"handlers": ["stderr"], "level": level, "propagate": False}},
    }


def variables(settings: LLMSettings) -> dict[str, str]:
    """The environment variables that make vLLM's processes do what is wanted."""
    # This process has torch threads by now, and a fork would copy the locks that they hold.
    chosen = {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # WARNING adds some twenty lines to a start on a CPU, none of which asks for action.
        "VLLM_LOGGING_LEVEL": settings.log_level,
        # Only an operator decides what is told to others about his service.
        "VLLM_NO_USAGE_STATS": os.environ.get("VLLM_NO_USAGE_STATS", "1"),
        # They would send spans of their start there, by gRPC whatever protocol this process was told.
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
        # Chatter of libraries below vLLM: torch about Triton and NUMA, vLLM about torch.
        "TORCH_LOGS": "-torch._library.triton",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": joined(os.environ.get("PYTHONWARNINGS"), TRITON_WARNING, ","),
    }
    if current_platform.is_cpu():
        # By default vLLM pins one thread to every core, which suits a machine of its own. Here the diffusion engine
        # draws on the same cores: a pinned thread would wait for its core while the other one idles.
        chosen["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        chosen["OMP_NUM_THREADS"] = str(settings.cpu_threads or max(1, available_cores() // 2))
        # On two busy cores two threads of torch's own OpenMP decoded three times slower than two of Intel's, and slower
        # than one. With one they are alike.
        if INTEL_OPENMP.is_file():
            chosen["LD_PRELOAD"] = joined(str(INTEL_OPENMP), os.environ.get("LD_PRELOAD"), ":")
            chosen["KMP_BLOCKTIME"] = BLOCK_TIME_MS
        if settings.enforce_eager is not False:
            # Eager or not, vLLM compiles a few small functions. The first log probabilities that are asked for would
            # start a C++ compiler, let all requests wait for it, and where there is none end the engine.
            chosen["TORCHDYNAMO_DISABLE"] = "1"
    return chosen


def joined(first: str | None, second: str | None, separator: str) -> str:
    """Both lists in one."""
    return separator.join(part for part in (first, second) if part)


def available_cores(cgroups: Path = CGROUPS) -> int:
    """Cores that this process may use: by its affinity, and by the CPU quota of its container.

    The quota is that of cgroup v2 as a container sees it, ``cpu.max`` with microseconds of CPU per microseconds of
    time, https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    cores = len(os.sched_getaffinity(0))
    limit = cgroups / "cpu.max"
    quota, period = limit.read_text().split() if limit.is_file() else ("max", "1")
    return cores if quota == "max" else min(cores, max(1, math.ceil(int(quota) / int(period))))


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """An environment with changes; afterwards the one from before, whatever else was changed meanwhile."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """No SIGINT reaches this thread, nor ever the processes that it starts meanwhile.

    A terminal sends Ctrl-C to all processes of the server, and vLLM's would drop the requests that the server wants to
    finish. They still end when this process tells them to, and with it.
    """
    # Starting this process of Python's unblocks the signals of the thread that happens to do it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
