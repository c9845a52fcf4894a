"""What numbers depend on: printed before any."""

import os
import platform
from pathlib import Path

import torch


def print_conditions(device: torch.device, threads: str, *more: str) -> str:
    """Print one line about this machine and what runs on it.

    Args:
        device: where tensors are.
        threads: that compute, in whichever processes those are that are measured.
        more: what else the numbers depend on.

    Returns:
        What is in the line.
    """
    others = os.getloadavg()[0]
    facts = (
        f"{device} ({device_name(device)})",
        f"torch {torch.__version__}, {threads}, on {os.cpu_count()} cores",
        f"load average {others:.1f} before the start",
        f"Python {platform.python_version()}",
        *more,
    )
    conditions = "; ".join(facts)
    print(f"conditions: {conditions}", flush=True)
    return conditions


def threads_here() -> str:
    """Those of this process, for a benchmark that computes itself, or whose processes have as many."""
    return counted(torch.get_num_threads())


def counted(threads: int) -> str:
    """So many threads, in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def device_name(device: torch.device) -> str:
    """What a device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
