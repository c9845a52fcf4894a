"""What numbers depend on: printed before any."""

import os
import platform
from pathlib import Path

import torch


def print_conditions(device: torch.device, *more: str) -> str:
    """Print one line about this machine and what runs on it.

    Args:
        device: where tensors are.
        more: what else the numbers depend on.

    Returns:
        What is in the line.
    """
    others = os.getloadavg()[0]
    facts = (
        f"{device} ({device_name(device)})",
        f"torch {torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores",
        f"load average {others:.1f} before the start",
        f"Python {platform.python_version()}",
        *more,
    )
    conditions = "; ".join(facts)
    print(f"conditions: {conditions}", flush=True)
    return conditions


def device_name(device: torch.device) -> str:
    """What a device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
