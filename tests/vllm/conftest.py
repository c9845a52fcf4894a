"""One real vLLM for all tests of this folder, and the Hugging Face model that it must agree with."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.llm.vllm_engine import VLLMEngine
from server.llm.vllm_settings import VLLMSettings
from tests.tiny_checkpoint import make_random_checkpoint
from tests.vllm.reference import BLOCK_SIZE, MAX_NUM_SEQS, TOKEN_BUDGET, Reference


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("dreamllm"))


@pytest.fixture(scope="session")
def environment_before_start() -> dict[str, str]:
    return dict(os.environ)


@pytest_asyncio.fixture(scope="session")
async def engine(checkpoint: Path, environment_before_start: dict[str, str]) -> AsyncIterator[VLLMEngine]:
    """A token budget smaller than most prompts: every test runs under chunked prefill."""
    settings = VLLMSettings(
        checkpoint,
        dtype="float32",
        kv_cache_gib=0.1,
        block_size=BLOCK_SIZE,
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=TOKEN_BUDGET,
    )
    engine = await VLLMEngine.start(settings)
    yield engine
    await engine.shutdown()


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)
