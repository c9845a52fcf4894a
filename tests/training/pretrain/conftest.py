"""A folder of stages that were barely trained, for all that reads them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.training.pretrain import denoiser, vision
from models.training.pretrain.autoencoder import train_autoencoder
from models.training.pretrain.denoiser import train_denoiser
from models.training.pretrain.vision import train_vision
from tests.training.pretrain.short_runs import POOL, SHORT


@pytest.fixture(scope="session")
def folder(small_batches: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States of the autoencoder, the denoiser and the vision tower after four steps."""
    folder, cpu = tmp_path_factory.mktemp("pretrain"), torch.device("cpu")
    train_autoencoder(folder, 0, cpu, SHORT)
    train_denoiser(folder, 0, cpu, SHORT, POOL)
    train_vision(folder, 0, cpu, SHORT)
    return folder


@pytest.fixture(scope="session", autouse=True)
def small_batches() -> Iterator[None]:
    """A step in a tenth of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoiser, "BATCH", 8)
        patch.setattr(vision, "BATCH", 8)
        patch.setattr(vision, "DECODED", 2)
        yield


@pytest.fixture
def begun(folder: Path, tmp_path: Path) -> Path:
    """A folder in which only the autoencoder is trained."""
    (tmp_path / "autoencoder.safetensors").symlink_to(folder / "autoencoder.safetensors")
    return tmp_path
