"""What the official code computed with its tiny checkpoint."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

OFFICIAL = Path(__file__).parents[2] / "fixtures" / "dreamllm-official-tiny-a"


@cache
def golden(section: str) -> dict[str, torch.Tensor]:
    """Arrays of one section of the official values."""
    with np.load(OFFICIAL / "golden" / f"{section}.npz") as arrays:
        return {name: torch.from_numpy(values) for name, values in arrays.items()}


@cache
def manifest() -> dict[str, Any]:
    """What the official values are, and the settings that gave them."""
    content: dict[str, Any] = json.loads((OFFICIAL / "golden" / "manifest.json").read_text())
    return content
