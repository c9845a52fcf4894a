"""A GPU for every test here. Where there is none they say so, and say it loudly: no test of this folder has passed."""

import pytest
import torch


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The first CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("NO CUDA DEVICE: nothing of this was checked on a GPU")
    return torch.device("cuda")
