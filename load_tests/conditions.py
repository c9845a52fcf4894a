"""What numbers depend on: printed before any."""

import os
import platform

import torch


def print_conditions(device: torch.device, *more: str) -> None:
    """Print one line about this machine and what runs on it.

    Args:
        device: where tensors are.
        more: what else the numbers depend on.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    others = os.getloadavg()[0]
    facts = (
        f"{device} ({name})",
        f"torch {torch.__version__} with {torch.get_num_threads()} threads on {os.cpu_count()} cores",
        f"load average {others:.1f} before the start",
        f"Python {platform.python_version()}",
        *more,
    )
    print(f"conditions: {'; '.join(facts)}", flush=True)
