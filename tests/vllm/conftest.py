"""The Hugging Face model that the real vLLM must agree with."""

from pathlib import Path

import pytest

from tests.vllm.reference import Reference


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)
