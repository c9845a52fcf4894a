"""The diffusion side of the official tiny checkpoint as we serve it: converted, then loaded."""

from pathlib import Path

import pytest

from models.diffusion.decoder import DiffusionDecoder


@pytest.fixture(scope="session")
def official_decoder(converted: Path) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(converted / "diffusion")
