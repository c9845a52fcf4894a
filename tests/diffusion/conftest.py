"""A tiny decoder and an engine that a test steps by hand."""

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from tests.diffusion.stepped_engine import SteppedEngine
from tests.diffusion.updates import Updates
from tests.tiny_diffusion import random_decoder, random_states


@pytest.fixture
def decoder() -> DiffusionDecoder:
    return random_decoder()


@pytest.fixture(scope="session")
def negative_states() -> torch.Tensor:
    return random_states(999)


@pytest.fixture
def stepped(decoder: DiffusionDecoder, negative_states: torch.Tensor) -> SteppedEngine:
    return SteppedEngine(decoder, negative_states)


@pytest.fixture
def updates() -> Updates:
    return Updates()
